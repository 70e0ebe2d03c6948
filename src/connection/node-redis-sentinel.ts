import { asError, ConnectionError } from '../base/errors.ts';
import { type Adapter, reconnectDelay } from './adapter.ts';
import type { BorrowedClient } from './borrowed-client.ts';
import { redact } from './node-redis.ts';
import { borrowStandalone } from './node-redis-client.ts';
import { type MasterEvents, type MasterSource, SentinelAdapter } from './sentinel-adapter.ts';
import { addSharedListeners } from './shared-listeners.ts';

/** The client of the current master inside a node-redis Sentinel client. */
interface MasterClient extends BorrowedClient {
  readonly options?: { readonly socket?: { readonly host?: string; readonly port?: number } };
}

interface SentinelClient extends BorrowedClient {
  readonly isOpen: boolean;
  /** Calls `use` with the master's client. Finds the master again first if `use` rejects with a READONLY error. */
  _execute(isReadonly: false, use: (master: MasterClient) => Promise<void>): Promise<void>;
}

export function borrowSentinel(client: BorrowedClient, changed: () => void): Adapter {
  return new SentinelAdapter(new BorrowedMaster(client as SentinelClient, changed), 'redis', changed);
}

/**
 * The master of a borrowed node-redis Sentinel client. The kit sends its commands to the master's client itself, since
 * the Sentinel client sends commands again whose replies were lost.
 */
class BorrowedMaster implements MasterSource {
  readonly client: SentinelClient;
  readonly #changed: () => void;
  #removeListeners: () => void = () => undefined;
  /** Counts the searches for the master: only the last one counts. */
  #searches = 0;
  #isAsking = false;
  #retry: NodeJS.Timeout | undefined;

  constructor(client: SentinelClient, changed: () => void) {
    this.client = client;
    this.#changed = changed;
  }

  open(events: MasterEvents): void {
    this.#removeListeners = addSharedListeners(this.client, {
      'topology-change': ({ type }: { type: string }) => {
        if (type !== 'MASTER_CHANGE') return;
        events.left();
        this.#find(events);
      },
      // Without a listener for 'error', a lost sentinel would end the process.
      error: () => undefined,
    });
    // A client that is not open yet announces its master when the owner connects it.
    if (this.client.isOpen) this.#find(events);
  }

  reconnect(): void {
    if (this.#isAsking || !this.client.isOpen) return;
    this.#isAsking = true;
    let asks = 0;
    const use = async () => {
      // After such an error, the Sentinel client asks its sentinels, and then calls again.
      if (asks++ === 0) throw new Error('READONLY the kit asks for the master again');
    };
    const asked = () => {
      this.#isAsking = false;
    };
    this.client._execute(false, use).then(asked, asked);
  }

  close(): void {
    this.#searches++;
    clearTimeout(this.#retry);
    this.#removeListeners();
  }

  #find(events: MasterEvents, attempts = 0): void {
    clearTimeout(this.#retry);
    const search = ++this.#searches;
    const use = async (master: MasterClient) => {
      if (search !== this.#searches) return;
      const { host, port } = master.options?.socket ?? {};
      events.connected(borrowStandalone(master, this.#changed), `${host}:${port}`);
    };
    this.client._execute(false, use).catch((thrown: unknown) => {
      if (search !== this.#searches) return;
      const cause = redact(asError(thrown));
      events.failed(new ConnectionError(`the borrowed Sentinel client: ${cause.message}`, { cause }));
      if (this.client.isOpen) {
        this.#retry = setTimeout(() => this.#find(events, attempts + 1), reconnectDelay(attempts)).unref();
      }
    });
  }
}
