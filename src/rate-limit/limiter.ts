import { performance } from 'node:perf_hooks';
import { describe } from '../base/check.ts';
import { asError, ConfigError } from '../base/errors.ts';
import type { Budget } from '../engine/budget.ts';
import { limitRefund } from '../operations/limit-refund.ts';
import type { TakeArgs } from '../operations/limit-take.ts';
import { type Answer, askStore, type RateLimitDeps, type RateLimitOnError, type Share } from './ask.ts';
import { type Decision, decide, type PolicyAnswer } from './decision.ts';
import { DenyCache, type DenyCacheSettings } from './deny-cache.ts';
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

export interface LimiterSettings {
  readonly policies: readonly PolicySettings[];
  readonly onError: RateLimitOnError;
  /** Whether a refused try counts. */
  readonly onDenied: 'ignore' | 'count';
  readonly denyCache: DenyCacheSettings | undefined;
}

const MAX_COST = 1_000_000_000;

export class LimiterCore implements Limiter {
  readonly #settings: LimiterSettings;
  readonly #deps: RateLimitDeps;
  readonly #denied: DenyCache | undefined;
  /** What a decision took, for its refund. */
  readonly #grants = new WeakMap<Decision, readonly Answer[]>();

  constructor(settings: LimiterSettings, deps: RateLimitDeps) {
    this.#settings = settings;
    this.#deps = deps;
    this.#denied = settings.denyCache === undefined ? undefined : new DenyCache(settings.denyCache);
  }

  async consume(
    id: string,
    options: { readonly cost?: number | undefined; readonly limit?: number | undefined } = {},
  ): Promise<Decision> {
    return this.take([this.#share(id, options.limit)], options.cost ?? 1);
  }

  async peek(id: string): Promise<Decision> {
    const decision = await this.#run('peek', [this.#share(id)], 1);
    return { ...decision, cost: 0 };
  }

  async penalize(id: string, units: number): Promise<Decision> {
    const decision = await this.#run('force', [this.#share(id)], units);
    const allowed = decision.remaining > 0;
    return { ...decision, allowed, retryAfterMs: allowed ? null : decision.resetMs };
  }

  async refund(decision: Decision): Promise<void> {
    const grants = this.#grants.get(decision) ?? [];
    this.#grants.delete(decision);
    await Promise.all(grants.map((grant) => this.#giveBack(grant, decision.cost)));
  }

  async reset(id: string): Promise<void> {
    const keys = this.#share(id).keys;
    this.#denied?.forget(id);
    await this.#deps.standIn.delete(keys);
    await this.#deps.engine.delete(keys);
  }

  /** The keys and limits of some policies for one identity; without policies, of all. */
  #share(id: string, limit?: number): Share {
    return this.share(
      id,
      this.#settings.policies.map((policy) => ({ policy, limit: limit ?? fixedLimit(policy) })),
    );
  }

  share(id: string, policies: Share['policies']): Share {
    if (typeof id !== 'string') {
      throw new ConfigError(
        `a limiter's id is ${describe(id)}; it must be a string, so that no two clients share one by mistake`,
      );
    }
    return { id, policies, keys: policies.map(({ policy }) => this.#deps.keys.rate(id, policy.name)) };
  }

  /** Takes the cost from every policy of every share, or from none. */
  take(shares: readonly Share[], cost: number, budget?: Budget): Promise<Decision> {
    return this.#run(this.#settings.onDenied === 'count' ? 'count' : 'take', shares, cost, budget);
  }

  async #run(
    mode: TakeArgs['mode'],
    shares: readonly Share[],
    cost: number,
    budget?: Budget,
  ): Promise<Decision> {
    if (!Number.isInteger(cost) || cost < 0 || cost > MAX_COST) {
      throw new ConfigError(
        `a limiter's cost is ${describe(cost)}; it must be a whole number from 0 to ${MAX_COST}`,
      );
    }
    const known = mode === 'take' ? this.#knownRefusal(shares, cost) : undefined;
    if (known !== undefined) return known;
    const sentAt = performance.now();
    const asked = await Promise.allSettled(
      shares.map((share) => askStore(share, { mode, cost }, this.#settings.onError, this.#deps, budget)),
    );
    const answers = asked.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    const failure = asked.find((each) => each.status === 'rejected');
    const isRefused = answers.some(isRefusal);
    if (mode === 'take' && (isRefused || failure !== undefined)) this.#undo(answers, cost);
    if (failure !== undefined) throw failure.reason;
    const decision = decide(
      cost,
      answers.some((answer) => answer.engine !== this.#deps.engine),
      answers.flatMap((answer) => policyAnswers(answer, mode === 'take' && isRefused ? cost : 0)),
    );
    if (mode === 'take' && isRefused) this.#remember(answers, cost, sentAt);
    // What a refused try was charged stays charged, so there is nothing to give back.
    else if (!isRefused && mode !== 'peek') this.#grants.set(decision, answers);
    return decision;
  }

  /** Gives back what some shares granted while another refused: all of them or none. */
  #undo(answers: readonly Answer[], cost: number): void {
    for (const answer of answers) {
      // Not waited for: it leaves on the same connection before whatever this process sends next.
      if (!isRefusal(answer)) void this.#giveBack(answer, cost);
    }
  }

  async #giveBack({ share, engine, replies }: Answer, cost: number): Promise<void> {
    if (engine === undefined || !replies.some((reply) => reply.stamp > 0)) return;
    this.#denied?.forget(share.id);
    const policies = share.policies.map(({ policy, limit }, index) => ({
      algorithm: policy.algorithm,
      numbers: policy.numbers(limit),
      stamp: replies[index]?.stamp ?? 0,
      position: replies[index]?.position ?? 0,
      units: cost,
    }));
    try {
      await engine.run(limitRefund, share.keys, { policies });
    } catch (error) {
      this.#deps.reporter.failure('rate', asError(error));
    }
  }

  #remember(answers: readonly Answer[], cost: number, sentAt: number): void {
    for (const { share, engine, replies } of answers) {
      if (engine !== this.#deps.engine || replies.every((reply) => reply.allowed)) continue;
      const limits = share.policies.map(({ limit }) => limit);
      this.#denied?.remember(share.id, {
        keys: share.keys,
        limits,
        cost,
        replies,
        sentAt,
        answeredAt: performance.now(),
      });
    }
  }

  #knownRefusal(shares: readonly Share[], cost: number): Decision | undefined {
    for (const share of shares) {
      const limits = share.policies.map(({ limit }) => limit);
      const replies = this.#denied?.find(share.id, share.keys, limits, cost);
      if (replies !== undefined) {
        return decide(cost, false, policyAnswers({ share, replies, engine: this.#deps.engine }, 0));
      }
    }
    return undefined;
  }
}

function isRefusal({ replies }: Answer): boolean {
  return replies.some((reply) => !reply.allowed);
}

/** `givenBack`: what a share that granted did not keep, since another refused. */
function policyAnswers(answer: Answer, givenBack: number): PolicyAnswer[] {
  const less = isRefusal(answer) ? 0 : givenBack;
  return answer.share.policies.map(({ policy, limit }, index) => {
    const reply = answer.replies[index] ?? { allowed: true, used: 0, waitMs: 0, resetMs: 0 };
    return { name: policy.name, limit, reply: { ...reply, used: Math.max(0, reply.used - less) } };
  });
}

function fixedLimit(policy: PolicySettings): number {
  if (typeof policy.limit === 'number') return policy.limit;
  throw new ConfigError(
    `the limit of '${policy.name}' is a function of the request; without one, give it: consume(id, { limit })`,
  );
}
