import { performance } from 'node:perf_hooks';

/** The longest that anything waits for a load. */
const LONGEST_LOAD_MS = 60_000;

/** The signal of one load. Created when the load asks for it: most do not, and AbortSignals are expensive. */
export class LoadSignal {
  readonly #closing: AbortSignal;
  readonly #until = performance.now() + LONGEST_LOAD_MS;
  #controller: AbortController | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(closing: AbortSignal) {
    this.#closing = closing;
  }

  get signal(): AbortSignal {
    this.#controller ??= this.#start(new AbortController());
    return this.#controller.signal;
  }

  /** To be called when the load is over. */
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
