import type { TakeReply } from './operations/take.ts';

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

/** One policy's answer, with what it was asked. */
export interface PolicyAnswer {
  readonly name: string;
  readonly limit: number;
  readonly reply: Pick<TakeReply, 'allowed' | 'used' | 'waitMs' | 'resetMs'>;
}

export function decide(cost: number, degraded: boolean, answers: readonly PolicyAnswer[]): Decision {
  const [first, ...others] = answers;
  if (first === undefined) throw new TypeError('a decision needs a policy');
  const tightest = others.reduce((tight, answer) => (isTighter(answer, tight) ? answer : tight), first);
  const allowed = answers.every(({ reply }) => reply.allowed);
  const canPass = answers.every(({ reply }) => reply.waitMs >= 0);
  return {
    allowed,
    degraded,
    cost,
    limit: tightest.limit,
    used: tightest.reply.used,
    remaining: remainingOf(tightest),
    retryAfterMs: allowed || !canPass ? null : Math.max(...answers.map(({ reply }) => reply.waitMs)),
    resetMs: tightest.reply.resetMs,
    policies: answers.map((answer) => ({
      name: answer.name,
      limit: answer.limit,
      used: answer.reply.used,
      remaining: remainingOf(answer),
      resetMs: answer.reply.resetMs,
      allowed: answer.reply.allowed,
    })),
  };
}

function remainingOf({ limit, reply }: PolicyAnswer): number {
  return Math.max(0, limit - reply.used);
}

/** A policy that refuses is tighter than one that allows; then the longer wait, then the smaller rest. */
function isTighter(a: PolicyAnswer, b: PolicyAnswer): boolean {
  if (a.reply.allowed !== b.reply.allowed) return !a.reply.allowed;
  if (!a.reply.allowed && waitOf(a) !== waitOf(b)) return waitOf(a) > waitOf(b);
  if (remainingOf(a) !== remainingOf(b)) return remainingOf(a) < remainingOf(b);
  return a.reply.resetMs > b.reply.resetMs;
}

function waitOf({ reply }: PolicyAnswer): number {
  return reply.waitMs < 0 ? Number.POSITIVE_INFINITY : reply.waitMs;
}
