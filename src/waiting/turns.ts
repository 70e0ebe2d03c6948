import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { onAbort } from '../base/abort.ts';
import type { ChannelListener, PubSub } from '../engine/pub-sub.ts';
import { TURN_MS } from './queue.ts';

/** How often those look again who cannot be called, since the listening connection is away. Less than a turn lasts. */
const POLL_MS = 250;

/** Added to every deadline of the server's that is waited for here, so that it has passed there. */
const MARGIN_MS = 10;

/** Calls who waits in a line, on one channel for all that wait in this process. Listens from the first of them on. */
export class Turns implements ChannelListener {
  /** What the channels of all processes begin with. */
  readonly channels: string;
  readonly #process = randomBytes(9).toString('base64url');
  readonly #pubSub: PubSub;
  /** By their tokens. Who waits may for a moment hold as well: a grant that came too late is given back. */
  readonly #waiting = new Map<string, Turn>();
  readonly #holding = new Map<string, () => void>();
  #isListening = false;
  #isUp = false;

  /** `closing`: nobody needs to wait any longer. */
  constructor(pubSub: PubSub, channels: string, closing: AbortSignal) {
    this.#pubSub = pubSub;
    this.channels = channels;
    closing.addEventListener('abort', () => this.#callAll());
  }

  /** The name under which this process is called; empty until it listens. */
  get process(): string {
    return this.#isListening ? this.#process : '';
  }

  /** Whoever will wait hears better from the beginning. */
  listen(): void {
    if (this.#isListening) return;
    this.#isListening = true;
    this.#pubSub.subscribe(this.channels + this.#process, this);
  }

  onMessage(message: string): void {
    const [, call, token = ''] = /^(now|soon|lost):(.*)$/.exec(message) ?? [];
    if (call === 'lost') this.#holding.get(token)?.();
    if (call === 'soon') this.#waiting.get(token)?.hasten();
    else this.#waiting.get(token)?.call();
  }

  onStatus(isUp: boolean): void {
    this.#isUp = isUp;
    // Who was called in the meantime has not heard it.
    this.#callAll();
  }

  /** A place in a line. From here on no call is missed. */
  wait(token: string): Turn {
    this.listen();
    const turn = new Turn(
      () => this.#isUp,
      () => void this.#waiting.delete(token),
    );
    this.#waiting.set(token, turn);
    return turn;
  }

  /** Tells when what is held under this token was taken away, as far as this process listens. */
  onLost(token: string, lost: () => void): () => void {
    this.#holding.set(token, lost);
    return () => {
      if (this.#holding.get(token) === lost) this.#holding.delete(token);
    };
  }

  #callAll(): void {
    for (const turn of this.#waiting.values()) turn.call();
  }
}

/** A place in a line, as who waits sees it. */
export class Turn {
  /** To be called in the end. */
  readonly end: () => void;
  readonly #isUp: () => boolean;
  #wasCalled = false;
  #lookAt = Number.POSITIVE_INFINITY;
  #wake: (() => void) | undefined;

  constructor(isUp: () => boolean, end: () => void) {
    this.#isUp = isUp;
    this.end = end;
  }

  call(): void {
    this.#wasCalled = true;
    this.#wake?.();
  }

  /** Somebody else was called. Should it be dead, its turn is ours to take. */
  hasten(): void {
    this.#lookAt = performance.now() + TURN_MS + MARGIN_MS;
    // Whoever sleeps longer than that goes to sleep anew.
    this.#wake?.();
  }

  /** Resolves when it is time to ask: when called, after so many milliseconds, or when the signal aborts. */
  async pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
    const until = performance.now() + (this.#isUp() ? ms + MARGIN_MS : Math.min(ms, POLL_MS));
    for (;;) {
      const left = Math.min(until, this.#lookAt) - performance.now();
      if (left <= 0 || this.#wasCalled || signal?.aborted === true) break;
      await this.#sleep(left, signal);
    }
    this.#wasCalled = false;
    this.#lookAt = Number.POSITIVE_INFINITY;
  }

  #sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        forget?.();
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(wake, ms);
      const forget = signal && onAbort(signal, wake);
      this.#wake = wake;
    });
  }
}
