import { ConnectionError } from '../base/errors.ts';
import type { Argument, RawReply } from '../engine/operation.ts';
import type { Adapter, Status, Subscriber } from './adapter.ts';
import type { CommandSignal } from './command-signal.ts';
import { replyErrorOf } from './node-redis.ts';

/** Finds the master, and connects to it whenever it changes. */
export interface MasterSource {
  readonly client: unknown;
  open(events: MasterEvents): void;
  /** Looks for the master again, since the current one refuses commands. Does nothing while that is under way. */
  reconnect(): void;
  close(): void;
}

export interface MasterEvents {
  /** A client is connected to the master. */
  connected(master: Adapter, address: string): void;
  /** The connection is lost, or another server is the master. */
  left(): void;
  /** An attempt to find or connect the master has failed; another one follows. */
  failed(error: Error): void;
}

/** Sends commands to the master of a group of servers that sentinels watch. */
export class SentinelAdapter implements Adapter {
  readonly mode = 'sentinel';
  readonly #source: MasterSource;
  readonly #changed: () => void;
  readonly #name: string;
  #master: Adapter | undefined;
  #address: string | undefined;
  #hasFailed = false;
  #error: Error | undefined;

  /** `name`: the name of the master while it has no address. */
  constructor(source: MasterSource, name: string, changed: () => void) {
    this.#source = source;
    this.#name = name;
    this.#changed = changed;
  }

  get client(): unknown {
    return this.#source.client;
  }

  get lastError(): Error | undefined {
    return this.#error ?? this.#master?.lastError;
  }

  open(): void {
    this.#source.open({
      connected: (master, address) => {
        this.#master = master;
        this.#address = address;
        this.#hasFailed = false;
        this.#error = undefined;
        this.#changed();
      },
      left: () => {
        this.#master?.close();
        this.#master = undefined;
        this.#address = undefined;
        this.#changed();
      },
      failed: (error) => {
        this.#hasFailed = true;
        this.#error = error;
        this.#changed();
      },
    });
  }

  nodeOf(): string {
    return this.#address ?? this.#name;
  }

  status(): Status {
    if (this.#master !== undefined) return this.#master.status('');
    return this.#hasFailed ? 'down' : 'connecting';
  }

  overallStatus(): Status {
    return this.status();
  }

  send(key: string, command: readonly Argument[], signal?: CommandSignal): Promise<RawReply> {
    return this.#master === undefined ? this.#unreachable() : this.#master.send(key, command, signal);
  }

  errorOf(error: unknown): unknown {
    return replyErrorOf(error) ?? error;
  }

  masters(): readonly ((command: readonly Argument[]) => Promise<RawReply>)[] {
    return this.#master?.masters() ?? [];
  }

  /** Once there is a master, the servers that were the master before have no circuit breaker. */
  ping(node: string): Promise<unknown> | undefined {
    if (this.#master === undefined) return this.#unreachable();
    return node === this.#address ? this.#master.ping(node) : undefined;
  }

  reconnect(node: string): void {
    if (node === this.#address) this.#source.reconnect();
  }

  refreshTopology(): void {
    // The sentinels announce another master by themselves.
  }

  createSubscriber(): Subscriber | undefined {
    return this.#master?.createSubscriber();
  }

  close(): void {
    this.#master?.close();
    this.#source.close();
  }

  #unreachable(): Promise<never> {
    return Promise.reject(new ConnectionError('the master cannot be reached'));
  }
}
