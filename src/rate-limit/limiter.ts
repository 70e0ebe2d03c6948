import { performance } from 'node:perf_hooks';
import { setImmediate as turn } from 'node:timers/promises';
import { describe } from '../base/describe.ts';
import { asError, ConfigError } from '../base/errors.ts';
import { OptionReader } from '../base/option-reader.ts';
import type { Deadline } from '../engine/deadline.ts';
import { type Answer, askStore, type RateLimitDeps, type RateLimitOnError, type Share } from './ask.ts';
import { type Decision, decide, type PolicyAnswer } from './decision.ts';
import { DenyCache, type DenyCacheSettings } from './deny-cache.ts';
import { limitRefund } from './operations/refund.ts';
import type { TakeArgs } from './operations/take.ts';
import type { PolicySettings } from './policy.ts';

/** What one call may say for itself. */
export interface CallOptions {
  /** In place of the policy's; required where that is a function of the request, and only where there is one policy. */
  readonly limit?: number | undefined;
}

/** A limiter for code that has no request. A refusal resolves, it never rejects. */
export interface Limiter {
  /** Takes `cost` units (default 1) if they fit. */
  consume(id: string, options?: CallOptions & { readonly cost?: number | undefined }): Promise<Decision>;
  /** Whether one unit would pass now; takes nothing. */
  peek(id: string, options?: CallOptions): Promise<Decision>;
  /** Gives back what a decision took, once; a no-op when it has expired or took nothing. */
  refund(decision: Decision): Promise<void>;
  /** Takes the units whether they fit or not; `allowed` says whether one more would pass after that. */
  penalize(id: string, units: number, options?: CallOptions): Promise<Decision>;
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

/** A policy with the limit that it has for one call. */
export interface AskedPolicy {
  readonly policy: PolicySettings;
  readonly limit: number;
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

  async consume(id: string, options: Parameters<Limiter['consume']>[1] = {}): Promise<Decision> {
    const reader = new OptionReader('limiter.consume', options, ['cost', 'limit']);
    return this.take([this.#share(id, reader.value('limit'))], (reader.value('cost') ?? 1) as number);
  }

  async peek(id: string, options: CallOptions = {}): Promise<Decision> {
    const reader = new OptionReader('limiter.peek', options, ['limit']);
    const decision = await this.#run('peek', [this.#share(id, reader.value('limit'))], 1);
    return { ...decision, cost: 0 };
  }

  async penalize(id: string, units: number, options: CallOptions = {}): Promise<Decision> {
    const reader = new OptionReader('limiter.penalize', options, ['limit']);
    return this.#run('force', [this.#share(id, reader.value('limit'))], units);
  }

  async refund(decision: Decision): Promise<void> {
    const grants = this.#grants.get(decision) ?? [];
    this.#grants.delete(decision);
    await Promise.all(grants.map((grant) => this.#giveBack(grant, decision.cost)));
  }

  async reset(id: string): Promise<void> {
    checkId(id);
    const { keys, fallbackEngine, engine } = this.#deps;
    const all = this.#settings.policies.map((policy) => keys.rate(id, policy.name));
    try {
      await fallbackEngine.delete(all);
      await engine.delete(all);
    } finally {
      await this.#forgetRefusal(keys.rateOwner(id));
    }
  }

  /** All policies for one identity. */
  #share(id: string, limit: unknown): Share {
    const { policies } = this.#settings;
    if (limit !== undefined && policies.length > 1) {
      throw new ConfigError(
        `a limiter's option \`limit\` is ${describe(limit)}; of several policies none can be told from it, so leave it out`,
      );
    }
    return this.share(
      id,
      policies.map((policy) => ({ policy, limit: (limit ?? fixedLimit(policy)) as number })),
    );
  }

  share(id: string, asked: readonly AskedPolicy[]): Share {
    checkId(id);
    const { keys } = this.#deps;
    return {
      id,
      owner: keys.rateOwner(id),
      policies: asked.map(({ policy, limit }) => ({ policy, limit, numbers: policy.numbers(limit) })),
      keys: asked.map(({ policy }) => keys.rate(id, policy.name)),
    };
  }

  /** Takes the cost from every policy of every share, or from none. */
  take(shares: readonly Share[], cost: number, deadline?: Deadline): Promise<Decision> {
    return this.#run(this.#settings.onDenied === 'count' ? 'count' : 'take', shares, cost, deadline);
  }

  async #run(
    mode: TakeArgs['mode'],
    shares: readonly Share[],
    cost: number,
    deadline?: Deadline,
  ): Promise<Decision> {
    if (!Number.isInteger(cost) || cost < 0 || cost > MAX_COST) {
      throw new ConfigError(
        `the cost for '${this.#settings.policies.map(({ name }) => name).join()}' is ${describe(cost)}; it must be a whole number from 0 to ${MAX_COST}`,
      );
    }
    const known = mode === 'take' ? this.#knownRefusal(shares, cost) : undefined;
    if (known !== undefined) return known;
    const sentAt = performance.now();
    const asked = await Promise.allSettled(
      shares.map((share) => askStore(share, { mode, cost }, this.#settings.onError, this.#deps, deadline)),
    );
    const answers = asked.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    const failure = asked.find((each) => each.status === 'rejected');
    const isRefused = answers.some(isRefusal);
    if (mode === 'take' && (isRefused || failure !== undefined)) this.#undo(answers, cost);
    if (failure !== undefined) throw failure.reason;
    const isCharged = mode === 'take' && isRefused ? cost : 0;
    const decision = decide(
      cost,
      answers.some((answer) => answer.engine !== this.#deps.engine),
      this.#inOrder(answers.flatMap((answer) => policyAnswers(answer, mode, isCharged))),
    );
    if (mode === 'take' && isRefused) this.#remember(answers, cost, sentAt);
    // What a refused try was charged stays charged, so there is nothing to give back.
    else if (mode === 'force' || (!isRefused && mode !== 'peek')) this.#grants.set(decision, answers);
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
    const policies = share.policies.map(({ policy, numbers }, index) => ({
      algorithm: policy.algorithm,
      numbers,
      stamp: replies[index]?.stamp ?? 0,
      position: replies[index]?.position ?? 0,
      units: cost,
    }));
    try {
      await engine.run(limitRefund, share.keys, { policies });
    } catch (error) {
      this.#deps.reporter.failure('rate', asError(error));
    } finally {
      await this.#forgetRefusal(share.owner);
    }
  }

  /** To be called when quota was given back: what was refused before has been answered, and remembered a turn later. */
  async #forgetRefusal(owner: string): Promise<void> {
    if (this.#denied === undefined) return;
    await turn();
    this.#denied.forget(owner);
  }

  #remember(answers: readonly Answer[], cost: number, sentAt: number): void {
    for (const { share, engine, replies } of answers) {
      if (engine !== this.#deps.engine || replies.every((reply) => reply.allowed)) continue;
      this.#denied?.remember(share, { cost, replies, sentAt, answeredAt: performance.now() });
    }
  }

  #knownRefusal(shares: readonly Share[], cost: number): Decision | undefined {
    for (const share of shares) {
      const replies = this.#denied?.find(share, cost);
      if (replies !== undefined) {
        return decide(cost, false, policyAnswers({ share, replies, engine: this.#deps.engine }, 'take', 0));
      }
    }
    return undefined;
  }

  /** As the options have the policies, whichever identities share them. */
  #inOrder(answers: readonly PolicyAnswer[]): readonly PolicyAnswer[] {
    const place = ({ name }: PolicyAnswer) =>
      this.#settings.policies.findIndex((policy) => policy.name === name);
    return answers.length === 1 ? answers : answers.toSorted((a, b) => place(a) - place(b));
  }
}

function isRefusal({ replies }: Answer): boolean {
  return replies.some((reply) => !reply.allowed);
}

/** `givenBack`: what a share that granted did not keep, since another refused. */
function policyAnswers(answer: Answer, mode: TakeArgs['mode'], givenBack: number): PolicyAnswer[] {
  const less = isRefusal(answer) ? 0 : givenBack;
  return answer.share.policies.map(({ policy, limit }, index) => {
    const reply = answer.replies[index] ?? NOTHING;
    const used = Math.max(0, reply.used - less);
    if (mode !== 'force') return { name: policy.name, limit, reply: { ...reply, used } };
    // A penalty always passes; what it says is whether anything is left.
    const isLeft = used < limit;
    return {
      name: policy.name,
      limit,
      reply: { ...reply, allowed: isLeft, waitMs: isLeft ? 0 : reply.resetMs },
    };
  });
}

const NOTHING = { allowed: true, used: 0, waitMs: 0, resetMs: 0 };

function checkId(id: unknown): void {
  if (typeof id === 'string') return;
  throw new ConfigError(
    `a limiter's id is ${describe(id)}; it must be a string, so that no two clients share one by mistake`,
  );
}

function fixedLimit(policy: PolicySettings): number {
  if (typeof policy.limit === 'number') return policy.limit;
  throw new ConfigError(
    `the limit of '${policy.name}' is a function of the request; here there is none, so give a number: { limit: 100 }`,
  );
}
