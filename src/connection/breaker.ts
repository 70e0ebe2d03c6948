const FAILURES_TO_OPEN = 3;
const PROBE_EVERY_MS = 500;

/**
 * Stops commands to a node that does not answer, so that an outage costs a few deadlines and not one per request.
 * While it is open it asks the node itself, one question at a time and without a deadline: a frozen server answers
 * the moment it thaws.
 */
export class Breaker {
  readonly #probe: () => Promise<unknown>;
  readonly #changed: (isOpen: boolean) => void;
  #failures = 0;
  #isOpen = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(probe: () => Promise<unknown>, changed: (isOpen: boolean) => void) {
    this.#probe = probe;
    this.#changed = changed;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  succeeded(): void {
    this.#failures = 0;
  }

  failed(): void {
    if (++this.#failures < FAILURES_TO_OPEN || this.#isOpen) return;
    this.#isOpen = true;
    this.#changed(true);
    this.#ask();
  }

  /** The node can be reached again, so there is no reason to wait with the next question. */
  hurry(): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#ask();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#isOpen = false;
  }

  #ask(): void {
    this.#timer = undefined;
    this.#probe().then(
      () => {
        if (!this.#isOpen) return;
        this.#isOpen = false;
        this.#failures = 0;
        this.#changed(false);
      },
      () => {
        if (!this.#isOpen) return;
        // An idle process may end though a node is still away.
        this.#timer = setTimeout(() => this.#ask(), PROBE_EVERY_MS).unref();
      },
    );
  }
}
