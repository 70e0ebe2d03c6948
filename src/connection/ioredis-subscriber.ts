import type { Subscriber, SubscriberEvents } from './adapter.ts';
import { type IoredisNode, ioredisErrorOf, ioredisReply, type SubscriberMethods } from './ioredis.ts';
import { CONNECT_TIMEOUT_MS } from './node-redis.ts';
import { isPattern, nameOf, type Topic, topicOf } from './topic.ts';

/** Options of the subscriber that replace those of its original, which are meant for commands. */
const OVERRIDES = {
  lazyConnect: true,
  connectTimeout: CONNECT_TIMEOUT_MS,
  enableOfflineQueue: false,
  // One socket: the next subscriber is another client, which subscribes to the channels one by one.
  retryStrategy: null,
  sentinelRetryStrategy: null,
  reconnectOnError: null,
  autoResubscribe: false,
  autoResendUnfulfilledCommands: false,
  enableAutoPipelining: false,
  // SubscriberConnection has a heartbeat of its own.
  commandTimeout: undefined,
  socketTimeout: undefined,
  failoverDetector: false,
  stringNumbers: false,
  himportFieldsets: undefined,
} as const;

/** A subscriber on a duplicate of a client or of a cluster's node, with the same address and credentials. */
export class IoredisSubscriber implements Subscriber {
  readonly #client: IoredisNode & SubscriberMethods;
  readonly isWellPlaced: () => boolean;
  #events: SubscriberEvents | undefined;

  constructor(original: IoredisNode, isWellPlaced: () => boolean) {
    this.isWellPlaced = isWellPlaced;
    this.#client = original.duplicate(OVERRIDES);
    this.#client.on('connect', () => this.#client.stream?.unref());
    this.#client.on('message', (channel: string, message: string) =>
      this.#events?.message(topicOf(channel), message, channel),
    );
    this.#client.on('pmessage', (pattern: string, channel: string, message: string) =>
      this.#events?.message(topicOf({ pattern }), message, channel),
    );
    this.#client.on('error', (error) => this.#events?.lost(ioredisErrorOf(error)));
    this.#client.on('end', () => this.#events?.lost(undefined));
  }

  connect(events: SubscriberEvents): Promise<unknown> {
    this.#events = events;
    return ioredisReply(this.#client.connect());
  }

  subscribe(topic: Topic): Promise<unknown> {
    const name = nameOf(topic);
    return ioredisReply(isPattern(topic) ? this.#client.psubscribe(name) : this.#client.subscribe(name));
  }

  unsubscribe(topic: Topic): Promise<unknown> {
    const name = nameOf(topic);
    return ioredisReply(isPattern(topic) ? this.#client.punsubscribe(name) : this.#client.unsubscribe(name));
  }

  ping(): Promise<unknown> {
    return ioredisReply(this.#client.ping());
  }

  destroy(): void {
    this.#events = undefined;
    this.#client.disconnect();
    // `disconnect()` waits up to two seconds for the server to close the socket.
    this.#client.stream?.destroy();
  }
}
