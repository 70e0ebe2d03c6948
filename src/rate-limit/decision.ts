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
  /** Redis was unavailable; the in-process fallback, or `onError: 'allow'`, decided. */
  readonly degraded: boolean;
  /** The units that the request costs. */
  readonly cost: number;
  /** The limit of the tightest policy; `used` and `remaining` are of the same policy. */
  readonly limit: number;
  readonly used: number;
  readonly remaining: number;
  /** Milliseconds until the same cost would be allowed; null when it was allowed, and when it never can be. */
  readonly retryAfterMs: number | null;
  /** Milliseconds until more quota comes back. */
  readonly resetMs: number;
  readonly policies: readonly PolicyDecision[];
}

export interface PolicyOutcome {
  readonly decision: PolicyDecision;
  /** Milliseconds until the cost fits: 0 for now, -1 for never. */
  readonly waitMs: number;
}

export function makeDecision(cost: number, degraded: boolean, outcomes: readonly PolicyOutcome[]): Decision {
  const [first, ...others] = outcomes;
  if (first === undefined) throw new TypeError('a decision needs a policy');
  const tightest = others.reduce((tight, other) => (isTighter(other, tight) ? other : tight), first);
  const { limit, used, remaining, resetMs } = tightest.decision;
  const policies = outcomes.map(({ decision }) => decision);
  const waits = outcomes.map(({ waitMs }) => waitMs);
  const allowed = policies.every((policy) => policy.allowed);
  const retryAfterMs = allowed || waits.some((wait) => wait < 0) ? null : Math.max(...waits);
  return { allowed, degraded, cost, limit, used, remaining, retryAfterMs, resetMs, policies };
}

/** A policy that refuses is tighter than one that allows. Among equals, the longer wait or the smaller rest is tighter. */
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
