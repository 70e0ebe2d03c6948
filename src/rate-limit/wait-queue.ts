import { performance } from 'node:perf_hooks';
import { closedError } from '../base/errors.ts';
import { keepProcessAlive } from '../waiting/keep-alive.ts';
import { sleepUntil } from '../waiting/sleep.ts';
import type { Decision, RateLimitDeps } from './decision.ts';

export interface WaitSettings {
  /** The longest wait of a request, in milliseconds. */
  readonly waitMs: number;
  /** The most requests of one identity that may wait in this process. */
  readonly maxQueue: number;
  /** Whether requests are decided as if they waited, but continue at once: shadow mode delays no request. */
  readonly isDryRun: boolean;
}

/** The requests of this process that wait for units which are granted to them, per identity. */
export class WaitQueue {
  readonly #settings: WaitSettings;
  readonly #deps: Pick<RateLimitDeps, 'work' | 'closing'>;
  readonly #lengths = new Map<string, number>();

  constructor(settings: WaitSettings, deps: Pick<RateLimitDeps, 'work' | 'closing'>) {
    this.#settings = settings;
    this.#deps = deps;
  }

  /**
   * Decides a request, and waits until its units are granted. `decide` gets the time that the request may wait: 0 when
   * the queue is full. A request counts from its command on, so that a burst cannot exceed the queue. When the wait
   * ends early, `refund` gives the units back: rejects with the reason of the signal, or when the kit closes.
   */
  async pass(
    identity: string,
    decide: (waitMs: number) => Promise<Decision>,
    refund: (decision: Decision) => Promise<void>,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly decision: Decision; readonly waitedMs: number }> {
    const length = this.#lengths.get(identity) ?? 0;
    const { waitMs, maxQueue, isDryRun } = this.#settings;
    this.#lengths.set(identity, length + 1);
    // Begun before the wait: closing the kit waits for the refund.
    this.#deps.work.begin();
    try {
      const decision = await decide(length < maxQueue ? waitMs : 0);
      const { waitedMs } = decision;
      if (waitedMs === 0 || isDryRun) return { decision, waitedMs };
      return { decision, waitedMs: await this.#sleep(decision, refund, signal) };
    } finally {
      this.#deps.work.end();
      const left = (this.#lengths.get(identity) ?? 1) - 1;
      if (left > 0) this.#lengths.set(identity, left);
      else this.#lengths.delete(identity);
    }
  }

  /** Returns the milliseconds that the request has waited. */
  async #sleep(
    decision: Decision,
    refund: (decision: Decision) => Promise<void>,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const { closing } = this.#deps;
    const beganAt = performance.now();
    try {
      const signals = signal === undefined ? [closing] : [closing, signal];
      await keepProcessAlive(sleepUntil(beganAt + decision.waitedMs, signals));
    } catch (error) {
      await refund(decision);
      throw closing.aborted ? closedError() : error;
    }
    return Math.round(performance.now() - beganAt);
  }
}

/** The decision of a request that has waited: its times count from now. */
export function afterWait(decision: Decision, waitedMs: number): Decision {
  const left = (ms: number) => Math.max(0, ms - waitedMs);
  const policies = decision.policies.map((policy) => ({ ...policy, resetMs: left(policy.resetMs) }));
  return { ...decision, waitedMs, resetMs: left(decision.resetMs), policies };
}
