import { setTimeout as wait } from 'node:timers/promises';
import { asError, ConnectionError } from '../base/errors.ts';
import { reconnectDelay } from './adapter.ts';
import type { HostAndPort } from './address.ts';
import { destroyClient, redact } from './node-redis.ts';
import { borrowStandalone, createOwnClient } from './node-redis-client.ts';
import type { OwnClient } from './redis-package.ts';
import type { MasterEvents, MasterSource } from './sentinel-adapter.ts';
import type { SentinelSettings } from './sentinel-options.ts';
import { Sentinels } from './sentinels.ts';

/**
 * A connection to the master that the sentinels name. node-redis's `createSentinel()` is not used: it sends commands
 * again whose replies were lost. Without `reserveClient` it also needs ten times the CPU time per command.
 */
export class MasterConnection implements MasterSource {
  readonly #settings: SentinelSettings;
  readonly #sentinels: Sentinels;
  readonly #changed: () => void;
  #events: MasterEvents | undefined;
  /** The attempt to connect that is running. */
  #attempt: AbortController | undefined;
  /** The address of the client, or that of the attempt if a sentinel has named it in a message. */
  #address: string | undefined;
  client: OwnClient;

  constructor(settings: SentinelSettings, changed: () => void) {
    this.#settings = settings;
    this.#changed = changed;
    this.#sentinels = new Sentinels(settings, (master) => this.#switch(master));
    // Is never connected: its commands reject until a master is found.
    this.client = createOwnClient(
      { ...settings, host: settings.name, port: 0 },
      { reconnectStrategy: false },
    );
  }

  open(events: MasterEvents): void {
    this.#events = events;
    this.#sentinels.open();
    this.#connect();
  }

  reconnect(): void {
    if (this.#attempt !== undefined) return;
    this.#events?.left();
    // Commands in flight get their replies first.
    this.client.unref();
    this.client.close().catch(() => undefined);
    this.#connect();
  }

  close(): void {
    this.#events = undefined;
    this.#sentinels.close();
    this.#attempt?.abort();
    destroyClient(this.client);
  }

  /** A message of each sentinel announces the same switch; the first one counts. */
  #switch(master: HostAndPort): void {
    if (this.#events === undefined || this.#address === nameOf(master)) return;
    this.#events.left();
    // Commands in flight are rejected: what the old master still runs and confirms is lost with its data.
    this.client.destroy();
    this.#connect(master);
  }

  /** `named`: the master, if a sentinel has just named it. */
  #connect(named?: HostAndPort): void {
    this.#attempt?.abort();
    this.#attempt = new AbortController();
    this.#address = named && nameOf(named);
    void this.#connectUntil(this.#attempt.signal, named);
  }

  /** Tries again until the signal is aborted. */
  async #connectUntil(signal: AbortSignal, named: HostAndPort | undefined): Promise<void> {
    for (let attempts = 0; !signal.aborted; attempts++) {
      try {
        const candidates = attempts === 0 && named ? [named] : await this.#sentinels.masters();
        await this.#connectFirst(candidates, signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        this.#address = undefined;
        this.#events?.failed(asError(error));
      }
      await wait(reconnectDelay(attempts), undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  /** Connects to the first candidate that is a master. Rejects with the reason of each. */
  async #connectFirst(candidates: readonly HostAndPort[], signal: AbortSignal): Promise<void> {
    const failures: Error[] = [];
    for (const address of candidates) {
      try {
        this.#use(await this.#connectTo(address, signal), address);
        return;
      } catch (error) {
        failures.push(redact(asError(error)));
      }
    }
    const reasons = candidates.map((address, index) => {
      const { message, name } = failures[index] ?? new Error('it was not tried');
      return `master '${this.#settings.name}', which is ${nameOf(address)} for its sentinels: ${message || name}`;
    });
    throw new ConnectionError(reasons.join('; '), { cause: failures.at(-1) });
  }

  /** `signal`: abandons the attempt. */
  async #connectTo(address: HostAndPort, signal: AbortSignal): Promise<OwnClient> {
    const mapped = this.#settings.nodeAddressMap(nameOf(address)) ?? address;
    const connecting = new AbortController();
    const abandon = () => connecting.abort();
    signal.addEventListener('abort', abandon);
    const client = createOwnClient(
      { ...this.#settings, ...mapped },
      { reconnectStrategy: false, signal: connecting.signal },
    );
    client.on('error', () => this.#lost(client));
    try {
      signal.throwIfAborted();
      await client.connect();
      await requireMaster(client);
      signal.throwIfAborted();
      return client;
    } catch (error) {
      destroyClient(client);
      throw error;
    } finally {
      signal.removeEventListener('abort', abandon);
    }
  }

  #use(client: OwnClient, address: HostAndPort): void {
    this.#attempt = undefined;
    this.#address = nameOf(address);
    this.client = client;
    this.#events?.connected(borrowStandalone(client, this.#changed), this.#address);
  }

  #lost(client: OwnClient): void {
    if (this.#events === undefined || client !== this.client || this.#attempt !== undefined) return;
    this.#events.left();
    this.#connect();
  }
}

/** HELLO shows the role and, unlike ROLE and INFO, needs no permission. */
async function requireMaster(client: OwnClient): Promise<void> {
  const { role } = await client.hello();
  if (role !== 'master') throw new Error(`it is a ${role}`);
}

function nameOf({ host, port }: HostAndPort): string {
  return `${host}:${port}`;
}
