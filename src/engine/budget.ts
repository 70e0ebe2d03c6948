import { loopNow } from './loop-clock.ts';

/**
 * How long a request may still wait for Redis, over all that the kit's middleware does before and after the handler, or
 * how long one call of the handler may. Only time spent waiting counts, and what waits side by side counts once.
 */
export class Budget {
  readonly #limitMs: number;
  #spentMs = 0;
  #waiting = 0;
  #since = 0;

  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  /** Whole milliseconds left; 0 when it is used up. */
  remainingMs(): number {
    const running = this.#waiting > 0 ? loopNow() - this.#since : 0;
    return Math.max(0, Math.ceil(this.#limitMs - this.#spentMs - running));
  }

  begin(): void {
    if (this.#waiting++ === 0) this.#since = loopNow();
  }

  end(): void {
    if (--this.#waiting === 0) this.#spentMs += loopNow() - this.#since;
  }
}

export interface BudgetOf {
  /** Finds the one budget of a request, whichever middleware asks first. */
  (request: object): Budget;
  /** A new budget, for one call of the handler: a long response may make any number of them. */
  ofCall(): Budget;
}

export function requestBudgets(limitMs: number): BudgetOf {
  const budgets = new WeakMap<object, Budget>();
  function budgetOf(request: object): Budget {
    let budget = budgets.get(request);
    if (budget === undefined) {
      budget = new Budget(limitMs);
      budgets.set(request, budget);
    }
    return budget;
  }
  return Object.assign(budgetOf, { ofCall: () => new Budget(limitMs) });
}
