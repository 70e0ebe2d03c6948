import { describe } from '../base/check.ts';
import { asError, ConfigError, StoreError } from '../base/errors.ts';
import type { Keys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Budget } from '../engine/budget.ts';
import type { Engine } from '../engine/port.ts';
import { limitRefund } from '../operations/limit-refund.ts';
import { limitTake, type TakeArgs, type TakeReply } from '../operations/limit-take.ts';
import { type Decision, decide } from './decision.ts';
import type { PolicySettings } from './policy.ts';

/** A limiter for code that has no request. A refusal resolves, it never rejects. */
export interface Limiter {
  /** Takes `cost` units (default 1) if they fit; `limit` overrides the policy's for this call. */
  consume(
    id: string,
    options?: { readonly cost?: number | undefined; readonly limit?: number | undefined },
  ): Promise<Decision>;
  /** Whether one unit would pass now; takes nothing. */
  peek(id: string): Promise<Decision>;
  /** Gives back what a decision took, once; a no-op when it has expired or took nothing. */
  refund(decision: Decision): Promise<void>;
  /** Takes the units whether they fit or not. `allowed` says whether anything is left. */
  penalize(id: string, units: number): Promise<Decision>;
  /** Forgets what the id has used. */
  reset(id: string): Promise<void>;
}

/** What happens when Redis cannot be asked. */
export type RateLimitOnError = 'memory' | 'allow' | 'deny';

/** What every limiter of a kit shares. */
export interface RateLimitDeps {
  readonly engine: Engine;
  /** Decides in this process while Redis cannot. */
  readonly standIn: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
}

interface Grant {
  readonly engine: Engine;
  readonly keys: readonly string[];
  readonly cost: number;
  readonly policies: TakeArgs['policies'];
  readonly stamps: readonly number[];
}

const MAX_COST = 1_000_000_000;

export class LimiterCore implements Limiter {
  readonly #policy: PolicySettings;
  readonly #onError: RateLimitOnError;
  readonly #deps: RateLimitDeps;
  readonly #grants = new WeakMap<Decision, Grant>();

  constructor(policy: PolicySettings, onError: RateLimitOnError, deps: RateLimitDeps) {
    this.#policy = policy;
    this.#onError = onError;
    this.#deps = deps;
  }

  consume(
    id: string,
    options: { readonly cost?: number | undefined; readonly limit?: number | undefined } = {},
    budget?: Budget,
  ): Promise<Decision> {
    return this.#take(
      'take',
      id,
      units('cost', options.cost ?? 1),
      units('limit', options.limit ?? this.#policy.limit),
      budget,
    );
  }

  peek(id: string): Promise<Decision> {
    return this.#take('peek', id, 1, this.#policy.limit);
  }

  async penalize(id: string, count: number): Promise<Decision> {
    const decision = await this.#take('force', id, units('units', count), this.#policy.limit);
    const allowed = decision.remaining > 0;
    return { ...decision, allowed, retryAfterMs: allowed ? null : decision.resetMs };
  }

  async refund(decision: Decision): Promise<void> {
    const grant = this.#grants.get(decision);
    if (grant === undefined) return;
    this.#grants.delete(decision);
    const { engine, keys, cost, policies, stamps } = grant;
    try {
      const owed = policies.map((policy, index) => ({ ...policy, stamp: stamps[index] ?? 0, units: cost }));
      await engine.run(limitRefund, keys, { policies: owed });
    } catch (error) {
      this.#deps.reporter.failure('rate', asError(error));
    }
  }

  async reset(id: string): Promise<void> {
    const keys = [this.#key(id)];
    await this.#deps.standIn.delete(keys);
    await this.#deps.engine.delete(keys);
  }

  #key(id: unknown): string {
    if (typeof id !== 'string') {
      throw new ConfigError(
        `a limiter's id is ${describe(id)}; it must be a string, so that no two clients share one by mistake`,
      );
    }
    return this.#deps.keys.rate(id, this.#policy.name);
  }

  async #take(
    mode: TakeArgs['mode'],
    id: string,
    cost: number,
    limit: number,
    budget?: Budget,
  ): Promise<Decision> {
    const keys = [this.#key(id)];
    const policies = [{ algorithm: this.#policy.algorithm, numbers: this.#policy.numbers(limit) }];
    const { replies, engine } = await this.#ask(keys, { mode, cost, policies }, budget);
    const decision = decide({
      cost,
      degraded: engine !== this.#deps.engine,
      policies: [{ settings: this.#policy, limit }],
      replies,
    });
    const stamps = replies.map((reply) => reply.stamp);
    if (engine !== undefined && stamps.some((stamp) => stamp > 0)) {
      this.#grants.set(decision, { engine, keys, cost, policies, stamps });
    }
    return decision;
  }

  /** Asks Redis, or whoever the failure policy names; `engine` is who answered. */
  async #ask(
    keys: readonly string[],
    args: TakeArgs,
    budget?: Budget,
  ): Promise<{ replies: readonly TakeReply[]; engine: Engine | undefined }> {
    const { engine, standIn, reporter } = this.#deps;
    try {
      const replies = await engine.run(limitTake, keys, args, budget);
      if (replies.some((reply) => reply.found === 'corrupt')) reporter.failure('rate', corrupt(keys));
      return { replies, engine };
    } catch (thrown) {
      const error = asError(thrown);
      reporter.failure('rate', error);
      if (this.#onError === 'deny') throw error;
      reporter.events.emit('rate:degraded', { error });
      if (this.#onError === 'memory')
        return { replies: await standIn.run(limitTake, keys, args), engine: standIn };
      const replies = args.policies.map(
        (): TakeReply => ({ used: 0, waitMs: 0, resetMs: 0, stamp: 0, found: 'fine' }),
      );
      return { replies, engine: undefined };
    }
  }
}

function corrupt(keys: readonly string[]): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_CORRUPT',
    `a value under ${keys.join(', ')} cannot be read and counts as absent`,
  );
}

function units(name: string, value: unknown): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= MAX_COST) return value;
  throw new ConfigError(
    `a limiter's ${name} is ${describe(value)}; it must be a whole number from 0 to ${MAX_COST}`,
  );
}
