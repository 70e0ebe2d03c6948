import { eventLoopTimeMs } from './event-loop-time.ts';

/**
 * The time that one request may wait for Redis, in all kit middleware together, before and after the handler. A call
 * from the handler has a deadline of its own. Only the time in which at least one command waits is spent.
 */
export class Deadline {
  readonly #limitMs: number;
  #spentMs = 0;
  #waiting = 0;
  #since = 0;

  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  /** The whole milliseconds that are left; 0 when the time is used up. */
  remainingMs(): number {
    const running = this.#waiting > 0 ? eventLoopTimeMs() - this.#since : 0;
    return Math.max(0, Math.ceil(this.#limitMs - this.#spentMs - running));
  }

  /** Starts to spend the time. Returns the milliseconds that are left. */
  begin(): number {
    if (this.#waiting++ > 0) return this.remainingMs();
    this.#since = eventLoopTimeMs();
    return Math.max(0, Math.ceil(this.#limitMs - this.#spentMs));
  }

  end(): void {
    if (--this.#waiting === 0) this.#spentMs += eventLoopTimeMs() - this.#since;
  }
}

/** The deadlines that a request has in several kits. */
interface DeadlineSlot {
  readonly owner: RequestDeadlines;
  readonly deadline: Deadline;
  readonly next: DeadlineSlot | undefined;
}

const DEADLINES: unique symbol = Symbol('the deadlines of a request');

/** The deadlines of requests: one per request, shared by all kit middleware. */
export class RequestDeadlines {
  readonly #limitMs: number;

  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  of(request: object & { [DEADLINES]?: DeadlineSlot }): Deadline {
    const slot = request[DEADLINES];
    for (let each = slot; each !== undefined; each = each.next) if (each.owner === this) return each.deadline;
    const deadline = new Deadline(this.#limitMs);
    // A property, since an entry of a WeakMap costs several times more.
    request[DEADLINES] = { owner: this, deadline, next: slot };
    return deadline;
  }

  /** Creates the deadline of one call from the handler, which may make any number of calls during a long response. */
  ofCall(): Deadline {
    return new Deadline(this.#limitMs);
  }
}
