import { asError, StoreError } from '../base/errors.ts';
import type { FailurePolicies } from '../base/failure-policies.ts';
import type { Keys } from '../base/keys.ts';
import type { OpenWork } from '../base/open-work.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import { identityBlock } from './operations/identity-block.ts';
import type { PolicyArgs } from './operations/policies-script.ts';
import { limitTake, type TakeArgs, type TakeReply } from './operations/take.ts';
import { limitWait } from './operations/wait.ts';

/** The decision of one policy. */
export interface PolicyDecision {
  readonly name: string;
  readonly limit: number;
  readonly used: number;
  readonly remaining: number;
  /** Milliseconds until more quota comes back; 0 when nothing is used. */
  readonly resetMs: number;
  readonly allowed: boolean;
}

/** The outcome of a limiter. A refusal is a normal outcome and not an error. */
export interface Decision {
  readonly allowed: boolean;
  /** Whether Redis was unavailable, so that the in-process fallback or `onError: 'allow'` decided. */
  readonly degraded: boolean;
  /** The units that the request or call costs; 0 for `peek()`. */
  readonly cost: number;
  /** The limit of the tightest policy. `used`, `remaining` and `resetMs` describe the same policy. */
  readonly limit: number;
  readonly used: number;
  readonly remaining: number;
  /** Milliseconds until the same cost would be allowed; null when the cost was allowed, or never can be. */
  readonly retryAfterMs: number | null;
  /** Milliseconds until more quota of the tightest policy comes back; 0 when nothing is used. */
  readonly resetMs: number;
  /** Milliseconds that the request has waited for its units, with the option `wait`; else 0. */
  readonly waitedMs: number;
  readonly policies: readonly PolicyDecision[];
}

/** The decision of a request, which the request's handler can correct. */
export interface RequestDecision extends Decision {
  /**
   * Corrects the cost of the request to the units that it used, up or down, at most once, at any time after the
   * decision. See `Limiter.settle`.
   */
  settle(actual: number): Promise<void>;
}

/** How a limiter decides while Redis is unavailable. */
export type RateLimitOnError = 'memory' | 'allow' | 'deny';

/** The parts of a kit that its limiters use. */
export interface RateLimitDeps {
  readonly engine: Engine;
  /** The in-process fallback, which decides while Redis is unavailable. */
  readonly fallbackEngine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
  /** The clock by which a decision ages, in milliseconds. */
  readonly now: () => number;
  /** Work that must finish before the connection closes. */
  readonly work: OpenWork;
  /** Aborts when the kit is closed. */
  readonly closing: AbortSignal;
  readonly failurePolicies: FailurePolicies;
}

export interface GroupPolicy extends PolicyArgs {
  readonly name: string;
  readonly limit: number;
}

/** The block of an identity. Its `name` is empty, as no policy's name is. */
export function blockOf(lengthMs: number): GroupPolicy {
  return { name: '', limit: 0, algorithm: identityBlock, numbers: [0, lengthMs, 0] };
}

/** The policies that limit one identity. One command decides the whole group. */
export interface PolicyGroup {
  readonly id: string;
  /** The key of the identity in the deny cache, short even for a long id. */
  readonly denyKey: string;
  /** The policies; after them the block of the identity, for a limiter with the option `block`. */
  readonly policies: readonly GroupPolicy[];
  readonly keys: readonly string[];
  /** The command that further requests of the group may join. */
  shared?: SharedTake | undefined;
}

/** A command that decides several requests of one group, in the order in which they arrived. */
export interface SharedTake {
  readonly costs: number[];
  /** Other requests join in the turn of the event loop in which the command was created. */
  readonly turn: number;
  /** How many other commands the limiter had sent before. */
  readonly commands: number;
  /** The time limit of the command; undefined for a call outside of any request. */
  readonly timeoutMs: number | undefined;
  readonly replies: Promise<readonly TakeReply[]>;
  amend(costs: string): void;
}

/** The engine of a limiter. */
export interface TakingEngine extends Engine {
  /** Takes the cost from all policies of the group, or from none. Resolves to one reply per policy. */
  take(group: PolicyGroup, cost: number, deadline: Deadline | undefined): Promise<readonly TakeReply[]>;
}

export interface LimiterDeps extends RateLimitDeps {
  readonly engine: TakingEngine;
}

export interface GroupDecision {
  readonly group: PolicyGroup;
  readonly replies: readonly TakeReply[];
  /** The engine that decided, which also runs the refund; undefined when `onError: 'allow'` decided. */
  readonly engine: Engine | undefined;
  readonly degraded: boolean;
  /** The batch of which the request uses units, for a limiter with the option `reserve`. */
  readonly batch?: Spendable;
}

/** Units that a process has taken before requests use them. */
interface Spendable {
  /** Uses units. Returns false if too few are left. */
  spend(units: number): boolean;
  refund(units: number): Promise<void>;
  /** The last decision that was made from the batch, to be copied for requests of the same cost. */
  decision: Decision | undefined;
}

export interface GroupCall extends Pick<TakeArgs, 'mode'> {
  readonly cost: number;
  readonly onError: RateLimitOnError;
  readonly deadline?: Deadline | undefined;
  /** How long the request may wait for its units; undefined for a limiter without the option `wait`. */
  readonly waitMs?: number | undefined;
}

/** The reply for each policy when `onError: 'allow'` decides. */
export const ALLOWED: TakeReply = {
  allowed: true,
  used: 0,
  waitMs: 0,
  resetMs: 0,
  stamp: 0,
  position: 0,
  found: 'fine',
};

/** Decides a policy group in Redis, or by the failure policy when Redis is unavailable. */
export async function decideGroup(
  group: PolicyGroup,
  { mode, cost, onError, deadline, waitMs }: GroupCall,
  { engine, fallbackEngine, reporter }: LimiterDeps,
): Promise<GroupDecision> {
  const { keys, policies } = group;
  const decide = (by: Engine, until?: Deadline) =>
    waitMs === undefined
      ? by.run(limitTake(policies), keys, { mode, costs: [cost], policies }, until)
      : by.run(limitWait(policies), keys, { cost, mostMs: waitMs, policies }, until);
  try {
    const isShared = mode === 'take' && waitMs === undefined;
    const replies = await (isShared ? engine.take(group, cost, deadline) : decide(engine, deadline));
    if (replies.some((reply) => reply.found === 'corrupt')) {
      reporter.failure('rate', corruptError(`a value under ${keys.join(', ')}`));
    }
    return { group, replies, engine, degraded: false };
  } catch (thrown) {
    const error = asError(thrown);
    reporter.failure('rate', error);
    if (onError === 'deny') throw error;
    if (reporter.isNewlyDegraded('rate')) reporter.events.emit('rate:degraded', { error });
    if (onError === 'allow') {
      return { group, replies: policies.map(() => ALLOWED), engine: undefined, degraded: true };
    }
    const replies = await decide(fallbackEngine);
    return { group, replies, engine: fallbackEngine, degraded: true };
  }
}

/** The error of a corrupt stored value. `value` names the stored value in the message. */
export function corruptError(value: string): StoreError {
  return new StoreError('ERR_REDIS_KIT_CORRUPT', `${value} cannot be read and counts as absent`);
}

export function hasRefused({ replies }: GroupDecision): boolean {
  return replies.some((reply) => !reply.allowed);
}

/** Combines the decisions of all groups. `names`: the names of the limiter's policies, in the order of its options. */
export function makeDecision(
  decided: readonly GroupDecision[],
  { mode, cost, waitMs: mostMs }: Pick<GroupCall, 'mode' | 'cost' | 'waitMs'>,
  names: readonly string[],
): Decision {
  const [only] = decided;
  if (only?.group.policies.length === 1 && decided.length === 1 && mode !== 'force' && mostMs === undefined) {
    return onePolicyDecision(only, cost);
  }
  const isRefused = decided.some(hasRefused);
  const outcomes = decided.flatMap((each) => {
    // When one group refuses a request, the units of a group that allowed the request are refunded.
    const refunded = mode === 'take' && isRefused && !hasRefused(each) ? cost : 0;
    return outcomesOf(each, mode, refunded);
  });
  const place = ({ decision }: PolicyOutcome) => names.indexOf(decision.name);
  if (decided.length > 1) outcomes.sort((a, b) => place(a) - place(b));
  const tightest = outcomes.reduce((tight, other) => (isTighter(other, tight) ? other : tight));
  const { limit, used, remaining, resetMs } = tightest.decision;
  const degraded = decided.some((each) => each.degraded);
  const policies = outcomes.map(({ decision }) => decision);
  const allowed = policies.every((policy) => policy.allowed);
  const waitMs = Math.max(...outcomes.map(waitOf));
  const retryAfterMs = allowed || waitMs === Number.POSITIVE_INFINITY ? null : waitMs;
  // For a limiter whose requests wait, the wait of an allowed request is the time until its units are granted.
  const waitedMs = allowed && mostMs !== undefined ? waitMs : 0;
  return { allowed, degraded, cost, limit, used, remaining, retryAfterMs, resetMs, waitedMs, policies };
}

/** The decision of most limiters, in fewer steps. */
function onePolicyDecision({ group, replies, degraded }: GroupDecision, cost: number): Decision {
  const { name = '', limit = 0 } = group.policies[0] ?? {};
  const { allowed, used, waitMs, resetMs } = replies[0] ?? ALLOWED;
  const remaining = limit > used ? limit - used : 0;
  const retryAfterMs = allowed || waitMs < 0 ? null : waitMs;
  const policies = [{ name, limit, used, remaining, resetMs, allowed }];
  return {
    allowed,
    degraded,
    cost,
    limit,
    used,
    remaining,
    retryAfterMs,
    resetMs,
    waitedMs: 0,
    policies,
  };
}

interface PolicyOutcome {
  readonly decision: PolicyDecision;
  /** Milliseconds until the cost fits, or until quota comes back after a penalty: 0 for now, -1 for never. */
  readonly waitMs: number;
}

function outcomesOf(
  { group, replies }: GroupDecision,
  mode: TakeArgs['mode'],
  refunded: number,
): readonly PolicyOutcome[] {
  const blockAt = group.policies.findIndex(({ algorithm }) => algorithm === identityBlock);
  const block = replies[blockAt] ?? ALLOWED;
  const policies = blockAt < 0 ? group.policies : group.policies.slice(0, blockAt);
  return policies.map(({ name, limit }, index) => {
    const reply = replies[index] ?? ALLOWED;
    const used = Math.max(0, reply.used - refunded);
    // A penalty is always charged, so `allowed` says whether any quota is left after the penalty.
    const fits = mode === 'force' ? used < limit : reply.allowed;
    // A block refuses under each policy. The refusal that starts the block keeps the results of the policies.
    const allowed = fits && block.allowed;
    // Until the block ends, no quota is left.
    const remaining = block.waitMs > 0 ? 0 : Math.max(0, limit - used);
    const resetMs = Math.max(reply.resetMs, block.waitMs);
    const decision = { name, limit, used, remaining, resetMs, allowed };
    if (mode === 'force') return { decision, waitMs: allowed ? 0 : resetMs };
    return { decision, waitMs: reply.waitMs < 0 ? -1 : Math.max(reply.waitMs, block.waitMs) };
  });
}

/**
 * A policy that refuses is tighter than one that allows; of two that refuse, the longer wait is tighter. Then the
 * smaller remaining quota is tighter, and last the longer reset.
 */
function isTighter(one: PolicyOutcome, other: PolicyOutcome): boolean {
  const [a, b] = [one.decision, other.decision];
  if (a.allowed !== b.allowed) return !a.allowed;
  if (!a.allowed && waitOf(one) !== waitOf(other)) return waitOf(one) > waitOf(other);
  if (a.remaining !== b.remaining) return a.remaining < b.remaining;
  return a.resetMs > b.resetMs;
}

/** Milliseconds until the cost fits; infinite when it never will. */
export function waitOf({ waitMs }: { readonly waitMs: number }): number {
  return waitMs < 0 ? Number.POSITIVE_INFINITY : waitMs;
}
