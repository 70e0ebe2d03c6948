import { performance } from 'node:perf_hooks';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe } from '../base/describe.ts';
import { asError, ConfigError } from '../base/errors.ts';
import { OptionReader } from '../base/option-reader.ts';
import type { Deadline } from '../engine/deadline.ts';
import {
  ALLOWED,
  type Decision,
  decideGroup,
  type GroupCall,
  type GroupDecision,
  hasRefused,
  type LimiterDeps,
  makeDecision,
  type PolicyGroup,
  type RateLimitDeps,
  type RateLimitOnError,
} from './decision.ts';
import { DenyCache, type DenyCacheSettings } from './deny-cache.ts';
import { GroupFactory } from './group-factory.ts';
import { limitRefund } from './operations/refund.ts';
import type { PolicySettings } from './policy.ts';
import { Reservations, type ReserveSettings } from './reservations.ts';
import { chargeRest, type DecisionCharge } from './settle.ts';
import { SharedTakes } from './shared-takes.ts';
import { afterWait, WaitQueue, type WaitSettings } from './wait-queue.ts';

export interface CallOptions {
  /**
   * Replaces the policy's limit for this call. Required when the policy's limit is a function of the request; not
   * allowed for a limiter of several policies.
   */
  readonly limit?: number | undefined;
}

/** A limiter for use without an HTTP request. A refusal resolves to a decision and rejects no promise. */
export interface Limiter {
  /** Takes `cost` units (default 1) if they fit. */
  consume(id: string, options?: CallOptions & { readonly cost?: number | undefined }): Promise<Decision>;
  /** Decides whether one unit would be allowed now, and takes nothing. */
  peek(id: string, options?: CallOptions): Promise<Decision>;
  /** Refunds the cost of a decision, at most once. Does nothing when the units have expired or none were taken. */
  refund(decision: Decision): Promise<void>;
  /**
   * Corrects the cost of a decision to the units that were used, up or down, at most once; a refund counts as a
   * correction to 0. Further units are charged even if they do not fit. Does nothing for a refused decision, or when
   * all units of the decision have come back. Rejects if `actual` is not a whole number from 0 to 1,000,000,000.
   */
  settle(decision: Decision, actual: number): Promise<void>;
  /** Takes the units even if they do not fit; `allowed` says whether one more unit would fit after the penalty. */
  penalize(id: string, units: number, options?: CallOptions): Promise<Decision>;
  /** Deletes the counts of the id under all policies of the limiter, and ends its block. */
  reset(id: string): Promise<void>;
}

export interface LimiterSettings {
  readonly policies: readonly PolicySettings[];
  readonly onError: RateLimitOnError;
  /** Whether a refused request is charged (`'count'`) or not (`'ignore'`). */
  readonly onDenied: 'ignore' | 'count';
  readonly denyCache: DenyCacheSettings | undefined;
  /** How long an identity is refused after a refusal, in milliseconds. */
  readonly block: number | undefined;
  readonly wait: WaitSettings | undefined;
  readonly reserve: ReserveSettings | undefined;
}

type Call = Omit<GroupCall, 'onError'>;

const MAX_COST = 1_000_000_000;

export class PolicyLimiter implements Limiter {
  readonly #settings: LimiterSettings;
  readonly #names: readonly string[];
  readonly #deps: LimiterDeps;
  readonly groups: GroupFactory;
  readonly #denyCache: DenyCache | undefined;
  readonly #queue: WaitQueue | undefined;
  readonly #reservations: Reservations | undefined;
  /** The charge of each decision that can still be refunded or settled. */
  readonly #charged = new WeakMap<Decision, DecisionCharge>();

  constructor(settings: LimiterSettings, deps: RateLimitDeps) {
    this.#settings = settings;
    this.#names = settings.policies.map(({ name }) => name);
    this.#deps = { ...deps, engine: new SharedTakes(deps.engine) };
    this.groups = new GroupFactory(settings, deps.keys);
    const { denyCache, wait, reserve } = settings;
    const waitMs = wait?.waitMs ?? 0;
    this.#denyCache = denyCache === undefined ? undefined : new DenyCache({ ...denyCache, waitMs });
    this.#queue = wait === undefined ? undefined : new WaitQueue(wait, deps);
    this.#reservations = reserve === undefined ? undefined : new Reservations(reserve, this.#deps);
  }

  async consume(id: string, options: Parameters<Limiter['consume']>[1] = {}): Promise<Decision> {
    const reader = new OptionReader('limiter.consume', options, ['cost', 'limit']);
    return this.take([this.groups.ofAll(id, reader.value('limit'))], (reader.value('cost') ?? 1) as number);
  }

  async peek(id: string, options: CallOptions = {}): Promise<Decision> {
    const reader = new OptionReader('limiter.peek', options, ['limit']);
    const decision = await this.#decide([this.groups.ofAll(id, reader.value('limit'))], {
      mode: 'peek',
      cost: 1,
    });
    return { ...decision, cost: 0 };
  }

  async penalize(id: string, units: number, options: CallOptions = {}): Promise<Decision> {
    const reader = new OptionReader('limiter.penalize', options, ['limit']);
    return this.#decide([this.groups.ofAll(id, reader.value('limit'))], { mode: 'force', cost: units });
  }

  async refund(decision: Decision): Promise<void> {
    await this.settle(decision, 0);
  }

  async settle(decision: Decision, actual: number): Promise<void> {
    this.#checkUnits('the actual cost', actual);
    const charge = this.#charged.get(decision);
    if (charge === undefined) return;
    this.#charged.delete(decision);
    const less = decision.cost - actual;
    if (less > 0) await Promise.all(charge.groups.map((each) => this.#refundGroup(each, less, actual)));
    if (less < 0) await chargeRest(charge, -less, this.#settings.policies, this.#deps);
  }

  async reset(id: string): Promise<void> {
    const { keys, fallbackEngine, engine } = this.#deps;
    const all = this.groups.keysOf(id);
    this.#reservations?.reset(keys.rateOwner(id));
    try {
      await fallbackEngine.delete(all);
      await engine.delete(all);
    } finally {
      await this.#forgetRefusal(keys.rateOwner(id));
    }
  }

  /**
   * Charges the cost to every policy of every group, or to none. `onDenied: 'count'` also charges a refused cost. A wait
   * for the units ends, with the reason as the rejection, when `signal` aborts.
   */
  take(
    groups: readonly PolicyGroup[],
    cost: number,
    deadline?: Deadline,
    signal?: AbortSignal,
  ): Promise<Decision> {
    if (this.#queue !== undefined) return this.#takeInTurn(this.#queue, groups, { cost, deadline }, signal);
    const mode = this.#settings.onDenied === 'count' ? 'count' : 'take';
    return this.#decide(groups, { mode, cost, deadline });
  }

  /** Decides one group, from a batch if the limiter takes batches. */
  #decideGroup(group: PolicyGroup, call: GroupCall): Promise<GroupDecision> {
    if (this.#reservations === undefined || call.mode !== 'take') return decideGroup(group, call, this.#deps);
    const reserved = this.#reservations.take(group, call.cost, call.deadline);
    return reserved.then((decided) => decided ?? decideGroup(group, call, this.#deps));
  }

  async #takeInTurn(
    queue: WaitQueue,
    groups: readonly PolicyGroup[],
    call: Pick<Call, 'cost' | 'deadline'>,
    signal: AbortSignal | undefined,
  ): Promise<Decision> {
    const { decision, waitedMs } = await queue.pass(
      groups[0]?.denyKey ?? '',
      (waitMs) => this.#decide(groups, { ...call, mode: 'take', waitMs }),
      (granted) => this.refund(granted),
      signal,
    );
    if (waitedMs === 0) return decision;
    const waited = afterWait(decision, waitedMs);
    const charge = this.#charged.get(decision);
    if (charge !== undefined) this.#charged.set(waited, { ...charge, at: charge.at + waitedMs });
    return waited;
  }

  /** The decision of a request that uses units of an open batch; undefined if they must be taken first. */
  spend([group]: readonly PolicyGroup[], cost: number): Decision | undefined {
    if (group === undefined || this.#reservations === undefined) return undefined;
    this.#checkUnits('the cost', cost);
    const spent = this.#reservations.spend(group, cost);
    if (spent?.batch === undefined) return undefined;
    const { batch } = spent;
    const last = batch.decision;
    batch.decision = last?.cost === cost ? last : makeDecision([spent], { mode: 'take', cost }, this.#names);
    const decision = { ...batch.decision };
    this.#charged.set(decision, { groups: [spent], at: this.#deps.now() });
    return decision;
  }

  /** The decision of a refusal that this process remembers; undefined if Redis must decide. */
  knownRefusal(groups: readonly PolicyGroup[], cost: number): Decision | undefined {
    const refusal = this.#findRefusal(groups, cost);
    return refusal && makeDecision([refusal], { mode: 'take', cost }, this.#names);
  }

  async #decide(groups: readonly PolicyGroup[], call: Call): Promise<Decision> {
    const { mode, cost } = call;
    this.#checkUnits('the cost', cost);
    const known = mode === 'take' ? (this.spend(groups, cost) ?? this.knownRefusal(groups, cost)) : undefined;
    if (known !== undefined) return known;
    const sentAt = performance.now();
    const groupCall = { ...call, onError: this.#settings.onError };
    const [only] = groups;
    const decided =
      only !== undefined && groups.length === 1
        ? [await this.#decideGroup(only, groupCall)]
        : await this.#decideAll(groups, groupCall);
    const isRefused = decided.some(hasRefused);
    const decision = makeDecision(decided, call, this.#names);
    if (mode === 'take' && isRefused) this.#rememberRefusals(decided, cost, sentAt);
    // With `onDenied: 'count'`, a refused request stays charged and cannot be refunded.
    else if (mode === 'force' || (!isRefused && mode !== 'peek')) {
      this.#charged.set(decision, { groups: decided, at: this.#deps.now() });
    }
    return decision;
  }

  async #decideAll(groups: readonly PolicyGroup[], call: GroupCall): Promise<readonly GroupDecision[]> {
    const results = await Promise.allSettled(groups.map((group) => this.#decideGroup(group, call)));
    const decided = results.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    const failure = results.find((each) => each.status === 'rejected');
    if (call.mode === 'take' && (failure !== undefined || decided.some(hasRefused))) {
      this.#refundAllowed(decided, call.cost);
    }
    if (failure !== undefined) throw failure.reason;
    return decided;
  }

  #checkUnits(what: string, units: number): void {
    if (Number.isInteger(units) && units >= 0 && units <= MAX_COST) return;
    throw new ConfigError(
      `${what} for '${this.#names.join()}' is ${describe(units)}; it must be a whole number from 0 to ${MAX_COST}`,
    );
  }

  /** Refunds the groups that allowed a request when another group refused or failed: a request charges all or none. */
  #refundAllowed(decided: readonly GroupDecision[], cost: number): void {
    for (const each of decided) {
      // Not awaited: the refund is sent on the same connection before any later command of this process.
      if (!hasRefused(each)) void this.#refundGroup(each, cost);
    }
  }

  /** Refunds the last `units` of a charge, after the first `kept`: a bucket has refilled the first units first. */
  async #refundGroup(decided: GroupDecision, units: number, kept = 0): Promise<void> {
    const { group, engine, replies, batch } = decided;
    if (batch !== undefined) {
      await batch.refund(units);
      await this.#forgetRefusal(group.denyKey);
      return;
    }
    if (engine === undefined || !replies.some((reply) => reply.stamp > 0)) return;
    const policies = group.policies.map(({ algorithm, numbers }, index) => {
      const { stamp, position } = replies[index] ?? ALLOWED;
      return { algorithm, numbers, stamp, position: position + kept * numbers[1], units };
    });
    try {
      await engine.run(limitRefund(policies), group.keys, { policies });
    } catch (error) {
      this.#deps.reporter.failure('rate', asError(error));
    } finally {
      await this.#forgetRefusal(group.denyKey);
    }
  }

  /**
   * Forgets the remembered refusal of an identity after a refund or reset. Waits one turn of the event loop first, in
   * which the replies to earlier commands are handled, so that a refusal among these replies is forgotten as well.
   */
  async #forgetRefusal(denyKey: string): Promise<void> {
    if (this.#denyCache === undefined) return;
    await nextTurn();
    this.#denyCache.forget(denyKey);
  }

  #rememberRefusals(decided: readonly GroupDecision[], cost: number, sentAt: number): void {
    const repliedAt = performance.now();
    for (const each of decided) {
      if (each.degraded || !hasRefused(each)) continue;
      this.#denyCache?.remember(each.group, { cost, replies: each.replies, sentAt, repliedAt });
    }
  }

  #findRefusal(groups: readonly PolicyGroup[], cost: number): GroupDecision | undefined {
    for (const group of groups) {
      const replies = this.#denyCache?.find(group, cost);
      if (replies !== undefined) return { group, replies, engine: this.#deps.engine, degraded: false };
    }
    return undefined;
  }
}
