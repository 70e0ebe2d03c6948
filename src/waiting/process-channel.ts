import { randomBytes } from 'node:crypto';
import type { ChannelListener, PubSub } from '../engine/pub-sub.ts';
import { HANDOFF_MS } from './queue.ts';
import { type WakeUp, WakeUps } from './wake-ups.ts';

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
  /** Listeners by token. While a late grant is released, its token may be granted again, with another listener. */
  readonly #lossListeners = new Map<string, () => void>();
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
    if (word === 'lost') this.#lossListeners.get(token)?.();
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

  /** Calls the listener when a lock is taken away from the holder with this token; returns an unsubscribe function. */
  onLost(token: string, listener: () => void): () => void {
    this.#lossListeners.set(token, listener);
    return () => {
      if (this.#lossListeners.get(token) === listener) this.#lossListeners.delete(token);
    };
  }
}
