import { ReplyError } from '../engine/port.ts';
import { PING_INTERVAL_MS, SOCKET_TIMEOUT_MS, type Subscriber } from './adapter.ts';

/** Silence is counted in ticks and not in time, since a blocked event loop receives nothing. */
const TICK_MS = 1_000;
const PING_AFTER_TICKS = PING_INTERVAL_MS / TICK_MS;
const DEAD_AFTER_TICKS = SOCKET_TIMEOUT_MS / TICK_MS;

const MAX_REFUSAL_DELAY_MS = 30_000;

export interface SubscriberTask {
  isWanted(channel: string): boolean;
  /** The subscriber is connected and has no subscriptions yet. */
  ready(): void;
  /** Every message that is published to the channel from now on arrives. */
  up(channel: string): void;
  message(channel: string, message: string): void;
  /** Redis denied the subscription to a channel; the connection tries again later. */
  refused(error: ReplyError): void;
  /** `error`: why the connection ended, if it is known. */
  ended(error: unknown): void;
}

type SubscriptionState = 'subscribing' | 'up' | 'unsubscribing' | 'refused';

/** One connection of a subscriber, from the attempt to connect until it is lost, does not answer or is ended. */
export class SubscriberConnection {
  readonly #subscriber: Subscriber;
  readonly #task: SubscriberTask;
  readonly #states = new Map<string, SubscriptionState>();
  /** The number of consecutive refusals per channel, from which the next delay follows. */
  readonly #refusals = new Map<string, number>();
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
      message: (channel: string, message: string) => this.#message(channel, message),
      lost: (error: unknown) => this.end(error),
    };
    subscriber.connect(events).then(
      () => this.#ready(),
      (error: unknown) => this.end(error),
    );
  }

  isUp(channel: string): boolean {
    return this.#states.get(channel) === 'up';
  }

  /** Subscribes or unsubscribes a channel if needed. Must be called whenever `isWanted(channel)` may have changed. */
  sync(channel: string): void {
    if (!this.#isReady || this.#isEnded) return;
    const state = this.#states.get(channel);
    const isWanted = this.#task.isWanted(channel);
    // In the other states a command or the delay after a refusal is running, after which `sync` runs again. node-redis
    // does not support overlapping commands for one channel.
    if (state === undefined && isWanted) void this.#subscribe(channel);
    if (state === 'up' && !isWanted) void this.#unsubscribe(channel);
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

  async #subscribe(channel: string): Promise<void> {
    this.#states.set(channel, 'subscribing');
    try {
      await this.#subscriber.subscribe(channel);
    } catch (error) {
      if (error instanceof ReplyError) this.#refused(channel, error);
      else this.end(error);
      return;
    }
    if (this.#isEnded) return;
    this.#states.set(channel, 'up');
    this.#refusals.delete(channel);
    this.#task.up(channel);
    this.sync(channel);
  }

  #refused(channel: string, error: ReplyError): void {
    if (this.#isEnded) return;
    const times = this.#refusals.get(channel) ?? 0;
    this.#refusals.set(channel, times + 1);
    this.#states.set(channel, 'refused');
    setTimeout(
      () => {
        this.#states.delete(channel);
        if (!this.#task.isWanted(channel)) this.#refusals.delete(channel);
        this.sync(channel);
      },
      Math.min(1_000 * 2 ** times, MAX_REFUSAL_DELAY_MS),
    ).unref();
    this.#task.refused(error);
  }

  async #unsubscribe(channel: string): Promise<void> {
    this.#states.set(channel, 'unsubscribing');
    try {
      await this.#subscriber.unsubscribe(channel);
    } catch (error) {
      // A refused UNSUBSCRIBE does no harm: messages of unwanted channels are ignored.
      if (!(error instanceof ReplyError)) {
        this.end(error);
        return;
      }
    }
    this.#states.delete(channel);
    this.sync(channel);
  }

  #message(channel: string, message: string): void {
    this.#receivedData();
    // A message that arrives together with the acknowledgement of its channel comes before `up` and is ignored.
    if (this.isUp(channel)) this.#task.message(channel, message);
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
