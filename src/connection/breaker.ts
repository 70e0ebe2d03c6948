import { performance } from 'node:perf_hooks';

const FAILURES_TO_OPEN = 3;

/** Consecutive probes that must be answered in time: more than one, since a slow node sometimes replies quickly. */
const ANSWERS_TO_CLOSE = 3;

const PROBE_EVERY_MS = 500;

export interface BreakerTask {
  /** A probe that is answered after this time has failed. */
  readonly timeoutMs: number;
  /** Pings the node; returns undefined if the node is no longer part of the cluster. */
  probe(): Promise<unknown> | undefined;
  /** Called when an outage begins and when it ends. */
  changed(isOpen: boolean): void;
}

/**
 * `closed`: commands are sent. `open`: no command is sent. `trial` (often called half-open): the node answers probes,
 * and commands are sent to find out whether the node answers commands too. The outage ends with the first answer to a
 * command.
 */
type State = 'closed' | 'open' | 'trial';

/**
 * A circuit breaker: stops commands to a node that does not answer, so that an outage costs a few timeouts and not one
 * per request. An open breaker sends one probe at a time and waits for its answer without a limit, so that a frozen
 * server is noticed as soon as it continues. An answer after the timeout is a failure: a node that is always too slow
 * must not seem to recover after each probe.
 */
export class Breaker {
  readonly #task: BreakerTask;
  #state: State = 'closed';
  #failures = 0;
  /** Consecutive probes that were answered in time. */
  #answers = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(task: BreakerTask) {
    this.#task = task;
  }

  get isOpen(): boolean {
    return this.#state === 'open';
  }

  get isOnTrial(): boolean {
    return this.#state === 'trial';
  }

  succeeded(): void {
    this.#failures = 0;
    if (this.#state === 'trial') this.#close();
  }

  failed(): void {
    if (this.#state === 'open') return;
    if (this.#state === 'trial') {
      this.#state = 'open';
      this.#probeLater();
    } else if (++this.#failures >= FAILURES_TO_OPEN) {
      this.#state = 'open';
      this.#task.changed(true);
      this.#probe();
    }
  }

  /** Ends a pause between probes, since the connection to the node has changed. */
  probeNow(): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#probe();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#state = 'closed';
  }

  #probe(): void {
    this.#timer = undefined;
    const answer = this.#task.probe();
    if (answer === undefined) {
      this.#close();
      return;
    }
    const sentAt = performance.now();
    answer.then(
      () => this.#answered(performance.now() - sentAt <= this.#task.timeoutMs),
      () => this.#probeLater(),
    );
  }

  #answered(isInTime: boolean): void {
    if (this.#state !== 'open') return;
    this.#answers = isInTime ? this.#answers + 1 : 0;
    if (this.#answers < ANSWERS_TO_CLOSE) {
      this.#probe();
      return;
    }
    this.#answers = 0;
    this.#state = 'trial';
  }

  #probeLater(): void {
    this.#answers = 0;
    if (this.#state !== 'open') return;
    // Unreferenced: an outage must not keep an idle process alive.
    this.#timer = setTimeout(() => this.#probe(), PROBE_EVERY_MS).unref();
  }

  #close(): void {
    this.#state = 'closed';
    this.#failures = 0;
    this.#task.changed(false);
  }
}
