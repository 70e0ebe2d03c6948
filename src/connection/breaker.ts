import { performance } from 'node:perf_hooks';

const FAILURES_TO_OPEN = 3;

/** As many as open it: a slow node gives a quick answer now and then. */
const ANSWERS_TO_CLOSE = 3;

const PROBE_EVERY_MS = 500;

export interface BreakerTask {
  /** Commands and probes that take longer have failed. */
  readonly deadlineMs: number;
  /** Asks the node itself; undefined when the node is no longer part of the cluster. */
  probe(): Promise<unknown> | undefined;
  /** Called once when an outage begins and once when it is over. */
  changed(isOpen: boolean): void;
}

/**
 * `closed`: commands are sent. `open`: none is sent. `trial`: the node answers probes, and the next command shows
 * whether it answers commands as well. The outage lasts until it does.
 */
type State = 'closed' | 'open' | 'trial';

/**
 * Stops commands to a node that does not answer, so that an outage costs a few deadlines and not one per request.
 * While it is open it probes the node, one question at a time. Each question stays until it is answered or the
 * connection is lost, so that a frozen server is noticed the moment it thaws; but only an answer within the deadline
 * counts, or a node that is slower than every deadline would seem to have recovered after each probe.
 */
export class Breaker {
  readonly #task: BreakerTask;
  #state: State = 'closed';
  #failures = 0;
  /** Probes in a row that were answered in time. */
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
      this.#askLater();
    } else if (++this.#failures >= FAILURES_TO_OPEN) {
      this.#state = 'open';
      this.#task.changed(true);
      this.#ask();
    }
  }

  /** The node can be reached again, so there is no reason to wait with the next probe. */
  hurry(): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#ask();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#state = 'closed';
  }

  #ask(): void {
    this.#timer = undefined;
    const answer = this.#task.probe();
    if (answer === undefined) {
      this.#close();
      return;
    }
    const askedAt = performance.now();
    answer.then(
      () => this.#answered(performance.now() - askedAt <= this.#task.deadlineMs),
      () => this.#askLater(),
    );
  }

  #answered(isInTime: boolean): void {
    if (this.#state !== 'open') return;
    this.#answers = isInTime ? this.#answers + 1 : 0;
    if (this.#answers < ANSWERS_TO_CLOSE) {
      this.#ask();
      return;
    }
    this.#answers = 0;
    this.#state = 'trial';
  }

  #askLater(): void {
    this.#answers = 0;
    if (this.#state !== 'open') return;
    // An idle process may end though a node is still away.
    this.#timer = setTimeout(() => this.#ask(), PROBE_EVERY_MS).unref();
  }

  #close(): void {
    this.#state = 'closed';
    this.#failures = 0;
    this.#task.changed(false);
  }
}
