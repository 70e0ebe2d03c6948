import { callListener } from '../base/emitter.ts';
import { asError, ConnectionError, StoreError } from '../base/errors.ts';
import { ReplyError } from '../engine/port.ts';
import type { ChannelListener, ChannelPattern, PubSub } from '../engine/pub-sub.ts';
import { reconnectDelay, type Subscriber } from './adapter.ts';
import { SubscriberConnection } from './subscriber-connection.ts';
import { type Topic, topicOf } from './topic.ts';

interface Subscription {
  readonly listener: ChannelListener;
  /** The status that the last `onStatus` call reported. */
  isUp: boolean;
}

/** Pub/Sub on one connection, which the first subscription opens and which is replaced when it is lost. */
export class ReconnectingPubSub implements PubSub {
  readonly #createSubscriber: () => Subscriber | undefined;
  readonly #report: (error: Error) => void;
  readonly #topics = new Map<Topic, Set<Subscription>>();
  #connection: SubscriberConnection | undefined;
  /** Set while the next attempt to connect is delayed. */
  #timer: NodeJS.Timeout | undefined;
  #attempts = 0;
  #isClosed = false;
  /** The last reported error message. The same message is reported again only after all topics have been up. */
  #reported: string | undefined;

  constructor(createSubscriber: () => Subscriber | undefined, report: (error: Error) => void) {
    this.#createSubscriber = createSubscriber;
    this.#report = report;
  }

  subscribe(channel: string | ChannelPattern, listener: ChannelListener): () => void {
    if (this.#isClosed) return () => undefined;
    const topic = topicOf(channel);
    const subscription: Subscription = { listener, isUp: false };
    const subscriptions = this.#topics.get(topic) ?? new Set();
    this.#topics.set(topic, subscriptions.add(subscription));
    if (this.#connection !== undefined) this.#connection.sync(topic);
    else if (this.#timer === undefined) this.#open();
    // Deferred, since the caller does not have the unsubscribe function yet.
    queueMicrotask(() => this.#notify(topic, subscription));
    return () => {
      if (!subscriptions.delete(subscription) || subscriptions.size > 0) return;
      this.#topics.delete(topic);
      this.#connection?.sync(topic);
    };
  }

  /** Replaces the connection, since it may lead to another node than commands do. */
  reconnect(): void {
    this.#connection?.end();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#connection?.end();
    this.#topics.clear();
  }

  #open(): void {
    this.#timer = undefined;
    if (this.#topics.size === 0) return;
    const subscriber = this.#subscriber();
    if (subscriber === undefined) {
      this.#openLater();
      return;
    }
    const connection = new SubscriberConnection(subscriber, {
      isWanted: (topic) => this.#topics.has(topic),
      ready: () => {
        for (const topic of this.#topics.keys()) connection.sync(topic);
      },
      up: (topic) => this.#up(topic),
      message: (topic, message, channel) => this.#message(topic, message, channel),
      refused: (topic, error) => this.#refused(topic, error),
      ended: (error) => this.#ended(error),
    });
    this.#connection = connection;
  }

  #subscriber(): Subscriber | undefined {
    try {
      return this.#createSubscriber();
    } catch (error) {
      // `duplicate()` of a borrowed client may throw.
      this.#failed(asError(error));
      return undefined;
    }
  }

  #openLater(): void {
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => this.#open(), reconnectDelay(this.#attempts++)).unref();
  }

  #up(topic: Topic): void {
    // Reset only now, and not when the socket connects: a server that closes each subscriber must not be retried
    // without growing pauses.
    this.#attempts = 0;
    if (
      this.#reported !== undefined &&
      [...this.#topics.keys()].every((each) => this.#connection?.isUp(each))
    ) {
      this.#reported = undefined;
    }
    for (const subscription of [...(this.#topics.get(topic) ?? [])]) this.#notify(topic, subscription);
  }

  #message(topic: Topic, message: string, channel: string): void {
    const subscriptions = this.#topics.get(topic);
    for (const subscription of [...(subscriptions ?? [])]) {
      if (subscriptions?.has(subscription))
        this.#call(() => subscription.listener.onMessage(message, channel));
    }
  }

  #refused(topic: Topic, error: ReplyError): void {
    this.#failed(error);
    for (const { listener } of [...(this.#topics.get(topic) ?? [])])
      this.#call(() => listener.onRefused?.(error));
  }

  #ended(error: unknown): void {
    this.#connection = undefined;
    this.#openLater();
    // A lost socket is not reported: if Redis is down, the connection for commands reports it.
    if (error instanceof ReplyError) this.#failed(error);
    for (const [topic, subscriptions] of [...this.#topics]) {
      for (const subscription of [...subscriptions]) this.#notify(topic, subscription);
    }
  }

  /** Calls `onStatus` if the status of the topic has changed since the last call. */
  #notify(topic: Topic, subscription: Subscription): void {
    const isUp = this.#connection?.isUp(topic) ?? false;
    if (isUp === subscription.isUp || !this.#topics.get(topic)?.has(subscription)) return;
    subscription.isUp = isUp;
    this.#call(() => subscription.listener.onStatus(isUp));
  }

  #call(call: () => unknown): void {
    callListener(call, (error) => this.#report(asError(error)));
  }

  #failed(error: Error): void {
    if (error.message === this.#reported) return;
    this.#reported = error.message;
    const message = `listening failed: ${error.message}`;
    const isReply = error instanceof ReplyError;
    this.#report(
      isReply
        ? new StoreError('ERR_REDIS_KIT_REPLY', message, { cause: error })
        : new ConnectionError(message, { cause: error }),
    );
  }
}
