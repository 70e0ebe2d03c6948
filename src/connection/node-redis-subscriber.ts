import type { EventEmitter } from 'node:events';
import type { Argument } from '../engine/operation.ts';
import type { Subscriber, SubscriberEvents } from './adapter.ts';
import { CONNECT_TIMEOUT_MS, type CommandOptions, readReply, replyErrorOf } from './node-redis.ts';
import { isPattern, nameOf, type Topic, topicOf } from './topic.ts';

/** The methods that the adapters use of a client that is connected to one node. */
export interface NodeClient extends Pick<EventEmitter, 'on'> {
  readonly isReady: boolean;
  readonly options?:
    | { readonly socket?: { readonly host?: unknown; readonly port?: unknown } | undefined }
    | undefined;
  sendCommand(command: readonly Argument[], options: CommandOptions): Promise<unknown>;
  duplicate(overrides: object): SubscriberClient;
  destroy(): void;
}

type MessageListener = (message: string, channel: string) => void;

interface SubscriberClient {
  on(event: 'error', listener: (error: unknown) => void): unknown;
  unref(): void;
  connect(): Promise<unknown>;
  subscribe(channel: string, listener: MessageListener): Promise<unknown>;
  unsubscribe(channel: string): Promise<unknown>;
  pSubscribe(pattern: string, listener: MessageListener): Promise<unknown>;
  pUnsubscribe(pattern: string): Promise<unknown>;
  sendCommand(command: readonly string[]): Promise<unknown>;
  destroy(): void;
}

/** Options of a duplicate that replace those of its original, which are meant for the commands of the app. */
export const DUPLICATE_OPTIONS = {
  disableOfflineQueue: true,
  commandsQueueMaxLength: undefined,
  commandOptions: { typeMapping: {}, timeout: 0 },
  // A client-side cache would be cleared whenever the duplicate's socket is lost.
  clientSideCache: undefined,
  emitInvalidate: false,
  // A maintenance notification would make node-redis replace the socket.
  maintNotifications: 'disabled',
  // SubscriberConnection has a heartbeat of its own: node-redis regards a socket as alive if it can write to the
  // socket.
  pingInterval: 0,
} as const;

/** A subscriber on a duplicate of a connected client, with the same address and credentials. */
export class NodeRedisSubscriber implements Subscriber {
  readonly #client: SubscriberClient;
  readonly #closing = new AbortController();
  readonly #onMessage: MessageListener = (message, channel) =>
    this.#events?.message(topicOf(channel), message, channel);
  readonly isWellPlaced: () => boolean;
  #events: SubscriberEvents | undefined;

  constructor(client: NodeClient, isWellPlaced: () => boolean) {
    this.isWellPlaced = isWellPlaced;
    this.#client = client.duplicate({
      ...DUPLICATE_OPTIONS,
      socket: {
        ...client.options?.socket,
        connectTimeout: CONNECT_TIMEOUT_MS,
        socketTimeout: undefined,
        // node-redis resubscribes to all channels in one command, which fails if one of them is denied.
        reconnectStrategy: false,
        // `destroy()` of node-redis does not stop a socket that is still connecting.
        signal: this.#closing.signal,
      },
    });
    this.#client.on('error', (error) => this.#events?.lost(replyErrorOf(error) ?? error));
    this.#client.unref();
  }

  connect(events: SubscriberEvents): Promise<unknown> {
    this.#events = events;
    return readReply(this.#client.connect());
  }

  subscribe(topic: Topic): Promise<unknown> {
    const name = nameOf(topic);
    if (!isPattern(topic)) return readReply(this.#client.subscribe(name, this.#onMessage));
    const onMessage: MessageListener = (message, channel) => this.#events?.message(topic, message, channel);
    return readReply(this.#client.pSubscribe(name, onMessage));
  }

  unsubscribe(topic: Topic): Promise<unknown> {
    const name = nameOf(topic);
    return readReply(isPattern(topic) ? this.#client.pUnsubscribe(name) : this.#client.unsubscribe(name));
  }

  ping(): Promise<unknown> {
    return readReply(this.#client.sendCommand(['PING']));
  }

  destroy(): void {
    this.#events = undefined;
    try {
      this.#client.destroy();
    } catch {
      // node-redis 5 throws if the client is closed already.
    }
    this.#closing.abort();
  }
}
