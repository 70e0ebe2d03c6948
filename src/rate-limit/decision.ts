import type { TakeReply } from '../operations/limit-take.ts';
import type { PolicySettings } from './policy.ts';

/** What one policy says of an identity. */
export interface PolicyDecision {
  readonly name: string;
  readonly limit: number;
  readonly used: number;
  readonly remaining: number;
  /** Milliseconds until more of it comes back; 0 when nothing is used. */
  readonly resetMs: number;
  readonly allowed: boolean;
}

/** The answer of a limiter. A refusal is an answer like any other, not an error. */
export interface Decision {
  readonly allowed: boolean;
  /** Redis could not be asked; the stand-in of this process (or the policy `'allow'`) decided. */
  readonly degraded: boolean;
  /** The units that were asked for. */
  readonly cost: number;
  /** Of the policy that is tightest at the moment; so are `used` and `remaining`. */
  readonly limit: number;
  readonly used: number;
  readonly remaining: number;
  /** Milliseconds until the same cost would pass; null when it passed, and when it never can. */
  readonly retryAfterMs: number | null;
  /** Milliseconds until more quota comes back. */
  readonly resetMs: number;
  readonly policies: readonly PolicyDecision[];
}

export interface Answer {
  readonly cost: number;
  readonly degraded: boolean;
  readonly policies: readonly { readonly settings: PolicySettings; readonly limit: number }[];
  readonly replies: readonly TakeReply[];
}

export function decide({ cost, degraded, policies, replies }: Answer): Decision {
  const each = policies.map(({ settings, limit }, index): PolicyDecision & { readonly waitMs: number } => {
    const { used = 0, waitMs = 0, resetMs = 0 } = replies[index] ?? {};
    const remaining = Math.max(0, limit - used);
    return { name: settings.name, limit, used, remaining, resetMs, allowed: waitMs === 0, waitMs };
  });
  const [first, ...others] = each;
  if (first === undefined) throw new TypeError('a decision needs a policy');
  const tightest = others.reduce((tight, policy) => (isTighter(policy, tight) ? policy : tight), first);
  const allowed = each.every((policy) => policy.allowed);
  const canPass = each.every((policy) => policy.waitMs >= 0);
  return {
    allowed,
    degraded,
    cost,
    limit: tightest.limit,
    used: tightest.used,
    remaining: tightest.remaining,
    retryAfterMs: allowed || !canPass ? null : Math.max(...each.map((policy) => policy.waitMs)),
    resetMs: tightest.resetMs,
    policies: each.map(({ waitMs: _, ...policy }) => policy),
  };
}

/** A policy that refuses is tighter than one that allows; then the longer wait, then the smaller rest. */
function isTighter(a: PolicyDecision & { waitMs: number }, b: PolicyDecision & { waitMs: number }): boolean {
  if (a.allowed !== b.allowed) return !a.allowed;
  const wait = (policy: { waitMs: number }) => (policy.waitMs < 0 ? Number.POSITIVE_INFINITY : policy.waitMs);
  if (wait(a) !== wait(b)) return wait(a) > wait(b);
  if (a.remaining !== b.remaining) return a.remaining < b.remaining;
  return a.resetMs > b.resetMs;
}
