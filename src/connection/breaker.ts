import { performance } from 'node:perf_hooks';

const FAILURES_TO_OPEN = 3;

/** Consecutive probes that must be answered in time: more than one, since a slow node sometimes replies quickly. */
const ANSWERS_TO_CLOSE = 3;

const PROBE_EVERY_MS = 1_000;

/** A node that refuses commands answers at once, so that its recovery is noticed by the next probe only. */
const PROBE_REFUSING_EVERY_MS = 500;

/** The pause between attempts to find another node in place of one that refuses commands. */
const REPLACE_EVERY_MS = 200;

export interface BreakerTask {
  /** A probe that is answered after this time has failed. */
  readonly timeoutMs: number;
  /**
   * Pings the node; returns undefined if the node is no longer part of the cluster. `key`: the key of the last command
   * that was not answered.
   */
  probe(key: string): Promise<unknown> | undefined;
  /** Called at an interval while no probe is answered, since another node may have replaced this one. */
  unanswered(): void;
  /** Called when an outage begins and when it ends. */
  changed(isOpen: boolean): void;
  /** Called when the node begins to refuse commands, and with undefined when it accepts them again. */
  refuses(error: Error | undefined): void;
}

/** The reply of a node that cannot serve commands, and the ways to follow it up. */
export interface NodeRefusal {
  readonly error: Error;
  /** Whether no command can succeed, so that the breaker opens if the refusal lasts. */
  readonly isOutage: boolean;
  /** Looks for another node or socket in place of this one. */
  replace(): void;
  /** Sends a command that is refused for the same reason. Rejects while it is refused, and calls `refused()` then. */
  probe(): Promise<unknown>;
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
 *
 * A node that refuses commands is probed with a command that it refuses, since a replica answers PING. The breaker opens
 * once a refusal has lasted for half of the timeout: until then commands are sent again, within their time.
 */
export class Breaker {
  readonly #task: BreakerTask;
  #state: State = 'closed';
  /** Whether `changed(true)` was called, and `changed(false)` was not called since. */
  #isReported = false;
  #failures = 0;
  #unansweredKey = '';
  /** Consecutive probes that were answered in time. */
  #answers = 0;
  #isProbing = false;
  #isStopped = false;
  #refusal: NodeRefusal | undefined;
  #refusedAt = 0;
  #replacedAt = Number.NEGATIVE_INFINITY;
  /** Set while the next probe is delayed. */
  #pause: NodeJS.Timeout | undefined;
  /** Set from a probe until one is answered. */
  #unanswered: NodeJS.Timeout | undefined;

  constructor(task: BreakerTask) {
    this.#task = task;
  }

  get isOpen(): boolean {
    return this.#state === 'open';
  }

  get isOnTrial(): boolean {
    return this.#state === 'trial';
  }

  /** Why the node refuses commands; undefined if it does not, or does not answer at all. */
  get refusal(): Error | undefined {
    return this.#refusal?.error;
  }

  succeeded(): void {
    this.#failures = 0;
    if (this.#state === 'trial') this.#close();
  }

  /** Must be called for each command that was not answered in time, or whose socket was lost. */
  failed(key: string): void {
    this.#unansweredKey = key;
    if (this.#isStopped || this.#state === 'open') return;
    if (this.#state === 'trial') {
      this.#state = 'open';
      this.#answers = 0;
      this.#probeLater();
    } else if (++this.#failures >= FAILURES_TO_OPEN) {
      this.#open();
      this.#probe();
    }
  }

  /** Must be called for each command that the node refused since it cannot serve commands. */
  refused(refusal: NodeRefusal): void {
    if (this.#isStopped) return;
    const now = performance.now();
    const isNew = this.#refusal === undefined;
    this.#refusal = refusal;
    if (isNew) {
      this.#refusedAt = now;
      // The node answers commands, so it is not on trial for that any more.
      if (this.#state === 'trial') this.#state = 'closed';
      this.#task.refuses(refusal.error);
    }
    if (refusal.isOutage && now - this.#refusedAt >= this.#task.timeoutMs / 2) this.#open();
    if (now - this.#replacedAt >= REPLACE_EVERY_MS) {
      this.#replacedAt = now;
      refusal.replace();
    }
    this.#probeLater();
  }

  /** Must be called when the node runs a command that it has refused before. */
  accepted(): void {
    if (this.#refusal === undefined) return;
    this.#refusal = undefined;
    this.#close();
    this.#task.refuses(undefined);
  }

  /** Ends a pause between probes, since the connection to the node has changed. */
  probeNow(): void {
    if (this.#pause === undefined) return;
    this.#stopPause();
    this.#probe();
  }

  stop(): void {
    this.#isStopped = true;
    this.#stopPause();
    this.#stopUnanswered();
    this.#refusal = undefined;
    this.#state = 'closed';
  }

  #open(): void {
    this.#state = 'open';
    if (this.#isReported) return;
    this.#isReported = true;
    this.#task.changed(true);
  }

  #close(): void {
    this.#state = 'closed';
    this.#failures = 0;
    if (!this.#isReported) return;
    this.#isReported = false;
    this.#task.changed(false);
  }

  #probe(): void {
    if (this.#isProbing) return;
    const refusal = this.#refusal;
    const answer = refusal === undefined ? this.#task.probe(this.#unansweredKey) : refusal.probe();
    if (answer === undefined) {
      this.#stopUnanswered();
      this.#close();
      return;
    }
    this.#isProbing = true;
    const sentAt = performance.now();
    this.#unanswered ??= setInterval(() => this.#task.unanswered(), PROBE_EVERY_MS).unref();
    const settled = (isAnswered: boolean) => {
      this.#isProbing = false;
      // A probe that failed because the socket was lost is no answer.
      if (isAnswered || refusal !== undefined) this.#stopUnanswered();
      if (!isAnswered) this.#answers = 0;
      else if (refusal !== undefined) this.accepted();
      else this.#answered(performance.now() - sentAt <= this.#task.timeoutMs);
      this.#probeLater();
    };
    answer.then(
      () => settled(true),
      () => settled(false),
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

  /** Probes after a pause, if the breaker is open or the node refuses commands. */
  #probeLater(): void {
    if (this.#isProbing || this.#pause !== undefined) return;
    if (this.#state !== 'open' && this.#refusal === undefined) return;
    const pauseMs = this.#refusal === undefined ? PROBE_EVERY_MS : PROBE_REFUSING_EVERY_MS;
    // Unreferenced: an outage must not keep an idle process alive.
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.#probe();
    }, pauseMs).unref();
  }

  #stopPause(): void {
    clearTimeout(this.#pause);
    this.#pause = undefined;
  }

  #stopUnanswered(): void {
    clearInterval(this.#unanswered);
    this.#unanswered = undefined;
  }
}
