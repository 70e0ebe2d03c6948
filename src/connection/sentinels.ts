import { asError, ConnectionError } from '../base/errors.ts';
import type { HostAndPort } from './address.ts';
import { destroyClient, readReply, redact } from './node-redis.ts';
import { createOwnClient } from './node-redis-client.ts';
import type { OwnClient } from './redis-package.ts';
import type { SentinelSettings } from './sentinel-options.ts';

/** After the first answer, the others have this long. */
const GRACE_MS = 300;

const SWITCHED = '+switch-master';

/** The sentinels of one master. Each has a connection, since the first to know of a failover may be any of them. */
export class Sentinels {
  readonly #name: string;
  readonly #sentinels: readonly Sentinel[];

  /** `switched` is called for each message of a sentinel that another server is the master. */
  constructor({ name, nodes, sentinel }: SentinelSettings, switched: (master: HostAndPort) => void) {
    this.#name = name;
    this.#sentinels = nodes.map((node) => {
      const client = createOwnClient({ ...sentinel, ...node, db: 0 });
      return new Sentinel(name, client, `${node.host}:${node.port}`, switched);
    });
  }

  open(): void {
    for (const sentinel of this.#sentinels) sentinel.open();
  }

  close(): void {
    for (const sentinel of this.#sentinels) sentinel.close();
  }

  /**
   * Asks all sentinels for the master. Resolves to their answers, the most frequent first: a sentinel that was cut off
   * from the others may name an old master. Rejects with the reason of each sentinel if none gives an address.
   */
  masters(): Promise<readonly HostAndPort[]> {
    return new Promise((resolve, reject) => {
      const votes = new Map<string, { readonly master: HostAndPort; count: number }>();
      const reasons: string[] = [];
      let waitingFor = this.#sentinels.length;
      let grace: NodeJS.Timeout | undefined;
      const decide = () => {
        clearTimeout(grace);
        const byCount = [...votes.values()].sort((one, other) => other.count - one.count);
        if (byCount.length > 0) resolve(byCount.map(({ master }) => master));
        else
          reject(new ConnectionError(`no sentinel names the master '${this.#name}': ${reasons.join('; ')}`));
      };
      for (const sentinel of this.#sentinels) {
        const answer = sentinel.ask().then(
          (master) => {
            const key = `${master.host}:${master.port}`;
            const vote = votes.get(key) ?? { master, count: 0 };
            votes.set(key, vote);
            vote.count++;
            grace ??= setTimeout(decide, GRACE_MS).unref();
            if (vote.count * 2 > this.#sentinels.length) decide();
          },
          (error: Error) => void reasons.push(`sentinel ${sentinel.address}: ${error.message}`),
        );
        void answer.then(() => {
          waitingFor--;
          if (waitingFor === 0) decide();
        });
      }
    });
  }
}

class Sentinel {
  readonly address: string;
  readonly #name: string;
  readonly #client: OwnClient;
  readonly #switched: (master: HostAndPort) => void;
  /** Settles with the first attempt to connect, whether it succeeds or fails. */
  readonly #wasTried: Promise<void>;
  #error = new Error('not connected');
  #isSubscribed = false;

  constructor(name: string, client: OwnClient, address: string, switched: (master: HostAndPort) => void) {
    this.#name = name;
    this.#client = client;
    this.address = address;
    this.#switched = switched;
    this.#wasTried = new Promise((resolve) => {
      this.#client.on('ready', () => void this.#subscribe().then(resolve));
      this.#client.on('error', (error: unknown) => {
        this.#error = redact(asError(error));
        resolve();
      });
    });
  }

  open(): void {
    // node-redis retries by itself; `connect()` rejects only if the client is closed meanwhile.
    this.#client.connect().catch(() => undefined);
  }

  close(): void {
    destroyClient(this.#client);
  }

  async ask(): Promise<HostAndPort> {
    await this.#wasTried;
    if (!this.#client.isReady || !this.#isSubscribed) throw this.#error;
    const reply = await readReply(
      this.#client.sendCommand(['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', this.#name]),
    );
    const [host, port] = Array.isArray(reply) ? reply : [];
    if (host === undefined) throw new Error('it knows no master of this name');
    return { host: String(host), port: Number(port) };
  }

  /** A sentinel whose messages the kit may not receive is not used: a failover would be noticed too late. */
  async #subscribe(): Promise<void> {
    try {
      await this.#client.subscribe(SWITCHED, this.#onMessage);
      this.#isSubscribed = true;
    } catch (error) {
      this.#error = redact(asError(error));
    }
  }

  /** The same function each time, since node-redis subscribes again by itself after a reconnect. */
  readonly #onMessage = (message: string): void => {
    const [name, , , host, port] = message.split(' ');
    if (name === this.#name && host !== undefined) this.#switched({ host, port: Number(port) });
  };
}
