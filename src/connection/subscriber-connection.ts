import { ReplyError } from '../engine/port.ts';
import { PING_INTERVAL_MS, SOCKET_TIMEOUT_MS, type Subscriber } from './adapter.ts';
import type { Topic } from './topic.ts';

/** Silence is counted in ticks and not in time, since a blocked event loop receives nothing. */
const TICK_MS = 1_000;
const PING_AFTER_TICKS = PING_INTERVAL_MS / TICK_MS;
const DEAD_AFTER_TICKS = SOCKET_TIMEOUT_MS / TICK_MS;

const MAX_REFUSAL_DELAY_MS = 30_000;

export interface SubscriberTask {
  isWanted(topic: Topic): boolean;
  /** The subscriber is connected and has no subscriptions yet. */
  ready(): void;
  /** Every message that is published to the topic from now on arrives. */
  up(topic: Topic): void;
  message(topic: Topic, message: string, channel: string): void;
  /** Redis denied the subscription to a topic; the connection tries again later. */
  refused(topic: Topic, error: ReplyError): void;
  /** `error`: why the connection ended, if it is known. */
  ended(error: unknown): void;
}

type SubscriptionState = 'subscribing' | 'up' | 'unsubscribing' | 'refused';

/** One connection of a subscriber, from the attempt to connect until it is lost, does not answer or is ended. */
export class SubscriberConnection {
  readonly #subscriber: Subscriber;
  readonly #task: SubscriberTask;
  readonly #states = new Map<Topic, SubscriptionState>();
  /** The number of consecutive refusals per topic, from which the next delay follows. */
  readonly #refusals = new Map<Topic, number>();
  readonly #heartbeat: NodeJS.Timeout;
  #silentTicks = 0;
  #isPinging = false;
  #isReady = false;
  #isEnded = false;

  constructor(subscriber: Subscriber, task: SubscriberTask) {
    this.#subscriber = subscriber;
    this.#task = task;
    this.#heartbeat = setInterval(() => this.#tick(), TICK_MS).unref();
    const events = {
      message: (topic: Topic, message: string, channel: string) => this.#message(topic, message, channel),
      lost: (error: unknown) => this.end(error),
    };
    subscriber.connect(events).then(
      () => this.#ready(),
      (error: unknown) => this.end(error),
    );
  }

  isUp(topic: Topic): boolean {
    return this.#states.get(topic) === 'up';
  }

  /** Subscribes or unsubscribes a topic if needed. Must be called whenever `isWanted(topic)` may have changed. */
  sync(topic: Topic): void {
    if (!this.#isReady || this.#isEnded) return;
    const state = this.#states.get(topic);
    const isWanted = this.#task.isWanted(topic);
    // In the other states a command or the delay after a refusal is running, after which `sync` runs again. node-redis
    // does not support overlapping commands for one topic.
    if (state === undefined && isWanted) void this.#subscribe(topic);
    if (state === 'up' && !isWanted) void this.#unsubscribe(topic);
  }

  end(error?: unknown): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    clearInterval(this.#heartbeat);
    this.#subscriber.destroy();
    this.#task.ended(error);
  }

  #ready(): void {
    if (this.#isEnded) return;
    this.#isReady = true;
    this.#receivedData();
    this.#task.ready();
  }

  async #subscribe(topic: Topic): Promise<void> {
    this.#states.set(topic, 'subscribing');
    try {
      await this.#subscriber.subscribe(topic);
    } catch (error) {
      if (error instanceof ReplyError) this.#refused(topic, error);
      else this.end(error);
      return;
    }
    if (this.#isEnded) return;
    this.#states.set(topic, 'up');
    this.#refusals.delete(topic);
    this.#task.up(topic);
    this.sync(topic);
  }

  #refused(topic: Topic, error: ReplyError): void {
    if (this.#isEnded) return;
    const times = this.#refusals.get(topic) ?? 0;
    this.#refusals.set(topic, times + 1);
    this.#states.set(topic, 'refused');
    setTimeout(
      () => {
        this.#states.delete(topic);
        if (!this.#task.isWanted(topic)) this.#refusals.delete(topic);
        this.sync(topic);
      },
      Math.min(1_000 * 2 ** times, MAX_REFUSAL_DELAY_MS),
    ).unref();
    this.#task.refused(topic, error);
  }

  async #unsubscribe(topic: Topic): Promise<void> {
    this.#states.set(topic, 'unsubscribing');
    try {
      await this.#subscriber.unsubscribe(topic);
    } catch (error) {
      // A refused UNSUBSCRIBE does no harm: messages of unwanted topics are ignored.
      if (!(error instanceof ReplyError)) {
        this.end(error);
        return;
      }
    }
    this.#states.delete(topic);
    this.sync(topic);
  }

  #message(topic: Topic, message: string, channel: string): void {
    this.#receivedData();
    // A message that arrives together with the acknowledgement of its topic comes before `up` and is ignored.
    if (this.isUp(topic)) this.#task.message(topic, message, channel);
  }

  #tick(): void {
    this.#silentTicks++;
    if (this.#silentTicks >= DEAD_AFTER_TICKS || !this.#subscriber.isWellPlaced()) {
      this.end();
      return;
    }
    if (!this.#isReady || this.#isPinging || this.#silentTicks < PING_AFTER_TICKS) return;
    this.#isPinging = true;
    this.#subscriber.ping().then(
      () => this.#receivedData(),
      // An error reply also shows that the server answers.
      (error: unknown) => (error instanceof ReplyError ? this.#receivedData() : this.end(error)),
    );
  }

  #receivedData(): void {
    this.#silentTicks = 0;
    this.#isPinging = false;
  }
}
