import { asError, ConnectionError } from '../base/errors.ts';
import type { Argument, RawReply } from '../engine/operation.ts';
import type { Adapter, Status, Subscriber } from './adapter.ts';
import type { BorrowedClient } from './borrowed-client.ts';
import type { CommandSignal } from './command-signal.ts';
import { redact } from './node-redis.ts';
import { openDuplicate } from './node-redis-client.ts';
import type { NodeClient } from './node-redis-subscriber.ts';

/** The members that the adapter uses of a pool of node-redis. */
interface Pool extends BorrowedClient {
  readonly isOpen: boolean;
  readonly idleClients: number;
  readonly totalClients: number;
  execute<Result>(task: (client: NodeClient) => Result): Promise<Result>;
}

/** A pool has no event for an idle client. */
const LOOK_EVERY_MS = 50;

/** The pause after the pool had no client to offer. */
const LOOK_AGAIN_MS = 500;

export function borrowPool(client: BorrowedClient, changed: () => void): Adapter {
  return new NodeRedisPool(client as Pool, changed);
}

/**
 * A borrowed pool of node-redis. The kit opens one client of its own with the address and credentials of the pool: each
 * command would otherwise occupy a client of the pool until its reply, and wait for one while all are in use.
 */
class NodeRedisPool implements Adapter {
  readonly mode = 'standalone';
  readonly client: Pool;
  readonly #changed: () => void;
  #own: Adapter | undefined;
  #isClosed = false;
  #timer: NodeJS.Timeout | undefined;
  /** Why the last attempt to create the kit's client failed. */
  #error: Error | undefined;

  constructor(client: Pool, changed: () => void) {
    this.client = client;
    this.#changed = changed;
  }

  get lastError(): Error | undefined {
    return this.#own?.lastError ?? this.#error;
  }

  open(): void {
    this.#look();
  }

  nodeOf(): string {
    return 'redis';
  }

  status(): Status {
    return this.#own?.overallStatus() ?? (this.#error === undefined ? 'connecting' : 'down');
  }

  overallStatus(): Status {
    return this.status();
  }

  send(key: string, command: readonly Argument[], signal?: CommandSignal): Promise<RawReply> {
    return this.#own?.send(key, command, signal) ?? Promise.reject(notOpen());
  }

  errorOf(error: unknown): unknown {
    return this.#own?.errorOf(error) ?? error;
  }

  masters(): readonly ((command: readonly Argument[]) => Promise<RawReply>)[] {
    return this.#own?.masters() ?? [];
  }

  ping(): Promise<unknown> | undefined {
    return this.#own === undefined ? Promise.reject(notOpen()) : this.#own.ping('redis');
  }

  reconnect(): void {
    this.#own?.reconnect('redis');
  }

  refreshTopology(): void {
    // A pool is connected to one server.
  }

  createSubscriber(): Subscriber | undefined {
    return this.#own?.createSubscriber();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#own?.close();
  }

  /** Takes an idle client for a moment: a task for a pool without one would make the pool connect another client. */
  #look(): void {
    const { isOpen, idleClients, totalClients } = this.client;
    // A pool with `minimum: 0` has no client until one is asked for.
    if (!isOpen || (idleClients === 0 && totalClients > 0)) {
      this.#lookAfter(LOOK_EVERY_MS);
      return;
    }
    this.client
      // `async`, since a task of a pool of node-redis 5 must not throw.
      .execute(async (original) => {
        if (this.#isClosed) return;
        this.#own = openDuplicate(original, this.#changed);
        this.#own.open();
      })
      .catch((error: unknown) => {
        this.#error = redact(asError(error));
        this.#lookAfter(LOOK_AGAIN_MS);
        this.#changed();
      });
  }

  #lookAfter(ms: number): void {
    if (!this.#isClosed) this.#timer = setTimeout(() => this.#look(), ms).unref();
  }
}

function notOpen(): ConnectionError {
  return new ConnectionError('the pool has not connected a client yet');
}
