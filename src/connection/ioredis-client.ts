import { ConnectionError } from '../base/errors.ts';
import type { Argument, RawReply } from '../engine/operation.ts';
import { type Adapter, SocketStatus, type Status, type Subscriber } from './adapter.ts';
import type { BorrowedClient } from './borrowed-client.ts';
import {
  type IoredisNode,
  IoredisSender,
  ioredisErrorOf,
  ioredisReply,
  isReady,
  replaceSocket,
} from './ioredis.ts';
import { IoredisSubscriber } from './ioredis-subscriber.ts';
import { addSharedListeners } from './shared-listeners.ts';

export function borrowIoredis(client: BorrowedClient, changed: () => void): Adapter {
  return new IoredisClient(client as BorrowedClient & IoredisNode, changed);
}

/** A borrowed client of ioredis or iovalkey that is connected to one server, by its address or through Sentinel. */
class IoredisClient implements Adapter {
  readonly mode: 'standalone' | 'sentinel';
  readonly client: IoredisNode;
  readonly #changed: () => void;
  readonly #sender = new IoredisSender();
  readonly #socket = new SocketStatus();
  readonly #removeListeners: () => void;
  lastError: Error | undefined;

  constructor(client: IoredisNode, changed: () => void) {
    this.client = client;
    this.mode = Array.isArray(client.options.sentinels) ? 'sentinel' : 'standalone';
    this.#changed = changed;
    if (isReady(client)) this.#socket.ready();
    this.#removeListeners = addSharedListeners(client, {
      ready: () => {
        this.#socket.ready();
        changed();
      },
      reconnecting: () => {
        this.#socket.reconnecting();
        changed();
      },
      error: (error) => {
        this.lastError = ioredisErrorOf(error);
        this.#failed(error);
      },
      // Not every lost socket and not every failed attempt to connect has an error.
      close: () => this.#failed(Symbol('close')),
      end: changed,
    });
  }

  open(): void {
    // The app or the first command connects the client.
  }

  wake(): void {
    if (this.client.status !== 'wait') return;
    this.client.connect().catch((error: unknown) => {
      this.lastError ??= ioredisErrorOf(error);
    });
  }

  nodeOf(): string {
    return 'redis';
  }

  status(): Status {
    const { client } = this;
    if (client.status === 'end') return 'down';
    if (client.status === 'ready' && client.mode !== 'normal') {
      this.lastError = new Error(`the client is in ${client.mode} mode, in which it sends no other commands`);
      return 'down';
    }
    return this.#socket.status(isReady(client));
  }

  overallStatus(): Status {
    return this.status();
  }

  send(_key: string, command: readonly Argument[]): Promise<RawReply> {
    return this.#sender.send(this.client, command);
  }

  errorOf(error: unknown): unknown {
    return ioredisErrorOf(error);
  }

  masters(): readonly ((command: readonly Argument[]) => Promise<RawReply>)[] {
    return [(command) => ioredisReply(this.send('', command))];
  }

  ping(): Promise<unknown> {
    if (!isReady(this.client)) return Promise.reject(new ConnectionError('Redis cannot be reached'));
    return ioredisReply(this.send('', ['PING']));
  }

  reconnect(): void {
    // Without a strategy, the client would end.
    if (typeof this.client.options.retryStrategy === 'function') replaceSocket(this.client);
  }

  refreshTopology(): void {
    // The address of the server is looked up when the client reconnects.
  }

  createSubscriber(): Subscriber | undefined {
    if (!isReady(this.client)) return undefined;
    const address = this.#address();
    // After a failover, the client is connected to another server. The subscriber is closed as well when the app closes
    // the client.
    return new IoredisSubscriber(this.client, () =>
      isReady(this.client) ? this.#address() === address : this.client.status !== 'end',
    );
  }

  close(): void {
    this.#removeListeners();
  }

  #address(): string {
    const { remoteAddress, remotePort } = this.client.stream ?? {};
    return `${remoteAddress}:${remotePort}`;
  }

  #failed(cause: unknown): void {
    if (!isReady(this.client)) this.#socket.failed(cause);
    this.#changed();
  }
}
