import { randomBytes } from 'node:crypto';
import type { ChannelListener, PubSub } from '../engine/pub-sub.ts';
import { HANDOFF_MS } from './queue.ts';
import { type WakeUp, WakeUps } from './wake-ups.ts';

/** The holder of a lock that another process can take away. */
export interface LockHolder {
  takenAway(): void;
}

/**
 * The Pub/Sub channel of this process, which wakes waiters and notifies holders whose lock was taken away. The process
 * subscribes before its first wait. See queue.ts for the messages.
 */
export class ProcessChannel implements ChannelListener {
  /** The prefix that the channels of all processes share. */
  readonly channels: string;
  readonly #process = randomBytes(9).toString('base64url');
  readonly #pubSub: PubSub;
  readonly #wakeUps = new WakeUps();
  /** Holders by token. While a late grant is released, its token may be granted again, to another holder. */
  readonly #holders = new Map<string, LockHolder>();
  #isSubscribed = false;

  constructor(pubSub: PubSub, channels: string, closing: AbortSignal) {
    this.#pubSub = pubSub;
    this.channels = channels;
    closing.addEventListener('abort', () => this.#wakeUps.wakeAll());
  }

  /** The name of this process in its channel; empty until the process subscribes. */
  get process(): string {
    return this.#isSubscribed ? this.#process : '';
  }

  subscribe(): void {
    if (this.#isSubscribed) return;
    this.#isSubscribed = true;
    this.#pubSub.subscribe(this.channels + this.#process, this);
  }

  onMessage(message: string): void {
    const [, word, token = ''] = /^(now|soon|lost):(.*)$/.exec(message) ?? [];
    if (word === 'lost') this.#holders.get(token)?.takenAway();
    if (word === 'soon') this.#wakeUps.wakeIn(token, HANDOFF_MS);
    else this.#wakeUps.wake(token);
  }

  onStatus(isUp: boolean): void {
    this.#wakeUps.listenerChanged(isUp);
  }

  expect(token: string): WakeUp {
    this.subscribe();
    return this.#wakeUps.expect(token);
  }

  /** Notifies the holder with this token when its lock is taken away. */
  addHolder(token: string, holder: LockHolder): void {
    this.#holders.set(token, holder);
  }

  removeHolder(token: string, holder: LockHolder): void {
    if (this.#holders.get(token) === holder) this.#holders.delete(token);
  }
}
