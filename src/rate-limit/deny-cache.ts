import { performance } from 'node:perf_hooks';
import { LRUCache } from 'lru-cache';
import { type PolicyGroup, waitOf } from './decision.ts';
import type { TakeReply } from './operations/take.ts';

/** A refusal that Redis has decided, remembered with its replies. */
export interface KnownRefusal {
  readonly cost: number;
  readonly replies: readonly TakeReply[];
  /** When the command was sent. The cost cannot fit before this time plus the wait. */
  readonly sentAt: number;
  /** When the reply arrived. Reported waits shrink from this time. */
  readonly repliedAt: number;
}

export interface DenyCacheSettings {
  readonly maxEntries: number;
  readonly maxAgeMs: number;
}

interface DenyCacheTimes extends DenyCacheSettings {
  /** How long a request may wait for its units: a refusal stops to apply this long before its wait is over. Default 0. */
  readonly waitMs?: number;
}

/**
 * Remembers refusals, so that the further requests of a refused client cost no command. A refusal applies until its
 * wait is over, but no longer than `maxAgeMs`, since another process may refund units meanwhile. A refusal applies only
 * to the same cost and limits: a smaller cost may be allowed, and a larger cost waits longer.
 */
export class DenyCache {
  readonly #refusals: LRUCache<string, KnownRefusal & { readonly group: PolicyGroup }>;
  readonly #maxAgeMs: number;
  readonly #waitMs: number;

  constructor({ maxEntries, maxAgeMs, waitMs = 0 }: DenyCacheTimes) {
    this.#refusals = new LRUCache({ max: maxEntries });
    this.#maxAgeMs = maxAgeMs;
    this.#waitMs = waitMs;
  }

  remember(group: PolicyGroup, refusal: KnownRefusal): void {
    this.#refusals.set(group.denyKey, { ...refusal, group });
  }

  forget(denyKey: string): void {
    this.#refusals.delete(denyKey);
  }

  /** Returns the replies of a refusal that still applies, with waits reduced by the reply's age; else undefined. */
  find(group: PolicyGroup, cost: number): readonly TakeReply[] | undefined {
    const refusal = this.#refusals.get(group.denyKey);
    if (refusal === undefined || refusal.cost !== cost || !hasSameLimits(refusal.group, group))
      return undefined;
    let wait = 0;
    for (const reply of refusal.replies) wait = Math.max(wait, waitOf(reply));
    const now = performance.now();
    if (now - refusal.sentAt >= Math.min(wait - this.#waitMs, this.#maxAgeMs)) {
      this.#refusals.delete(group.denyKey);
      return undefined;
    }
    const age = Math.floor(now - refusal.repliedAt);
    return refusal.replies.map((reply) => ({
      ...reply,
      waitMs: reply.waitMs > 0 ? Math.max(1, reply.waitMs - age) : reply.waitMs,
      resetMs: reply.resetMs > 0 ? Math.max(1, reply.resetMs - age) : 0,
    }));
  }
}

function hasSameLimits(one: PolicyGroup, other: PolicyGroup): boolean {
  if (one === other) return true;
  if (one.policies.length !== other.policies.length) return false;
  return one.policies.every(({ name, limit }, index) => {
    const policy = other.policies[index];
    return policy?.name === name && policy.limit === limit;
  });
}
