import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { TURN_MS } from '../operations/waiting-line.ts';
import type { ChannelListener, Listening } from './listening.ts';

/** How often those look again who cannot be called, since the listening connection is away. Less than a turn lasts. */
const POLL_MS = 250;

/** Added to every deadline of the server's that is waited for here, so that it has passed there. */
const MARGIN_MS = 10;

type Call = 'now' | 'soon' | 'lost';

/** Calls who waits in a line, on one channel for all that wait in this process. Listens from the first of them on. */
export class Turns implements ChannelListener {
  /** What the channels of all processes begin with. */
  readonly channels: string;
  readonly #process = randomBytes(9).toString('base64url');
  readonly #listening: Listening;
  readonly #called = new Map<string, (call: Call) => void>();
  #isListening = false;
  #isUp = false;

  /** `closing`: nobody needs to wait any longer. */
  constructor(listening: Listening, channels: string, closing: AbortSignal) {
    this.#listening = listening;
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
    this.#listening.subscribe(this.channels + this.#process, this);
  }

  heard(message: string): void {
    const [, call, token = ''] = /^(now|soon|lost):(.*)$/.exec(message) ?? [];
    this.#called.get(token)?.(call as Call);
  }

  changed(isUp: boolean): void {
    this.#isUp = isUp;
    // Who was called in the meantime has not heard it.
    this.#callAll();
  }

  /** A place in a line. From here on no call is missed. */
  wait(token: string): Turn {
    this.listen();
    const turn = new Turn(
      () => this.#isUp,
      () => stop(),
    );
    const stop = this.#on(token, (call) => {
      if (call === 'soon') turn.hasten();
      else turn.call();
    });
    return turn;
  }

  /** Tells when what is held under this token was taken away, as far as this process listens. */
  onLost(token: string, lost: () => void): () => void {
    return this.#on(token, (call) => {
      if (call === 'lost') lost();
    });
  }

  #callAll(): void {
    for (const told of [...this.#called.values()]) told('now');
  }

  #on(token: string, told: (call: Call) => void): () => void {
    this.#called.set(token, told);
    return () => {
      if (this.#called.get(token) === told) this.#called.delete(token);
    };
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
        signal?.removeEventListener('abort', wake);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(wake, ms);
      signal?.addEventListener('abort', wake);
      this.#wake = wake;
    });
  }
}
