import { performance } from 'node:perf_hooks';

/** The time after which the signal of a loader aborts: concurrent callers have stopped waiting for the value. */
const LONGEST_LOAD_MS = 60_000;

/** The AbortSignal for one run of a loader, created when `signal` is first read: AbortSignals are expensive. */
export class LoaderSignal {
  readonly #closing: AbortSignal;
  readonly #until = performance.now() + LONGEST_LOAD_MS;
  #controller: AbortController | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `closing` aborts when the kit is closed. */
  constructor(closing: AbortSignal) {
    this.#closing = closing;
  }

  get signal(): AbortSignal {
    this.#controller ??= this.#start(new AbortController());
    return this.#controller.signal;
  }

  /** Called when the loader has ended: clears the timer and removes the listener. */
  end(): void {
    clearTimeout(this.#timer);
    this.#closing.removeEventListener('abort', this.#close);
  }

  readonly #close = (): void => this.#controller?.abort(this.#closing.reason);

  #start(controller: AbortController): AbortController {
    if (this.#closing.aborted) {
      controller.abort(this.#closing.reason);
      return controller;
    }
    this.#closing.addEventListener('abort', this.#close);
    const timedOut = () => controller.abort(new DOMException('the load took a minute', 'TimeoutError'));
    this.#timer = setTimeout(timedOut, Math.max(0, this.#until - performance.now())).unref();
    return controller;
  }
}
