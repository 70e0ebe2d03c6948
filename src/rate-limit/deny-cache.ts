import { performance } from 'node:perf_hooks';
import { LRUCache } from 'lru-cache';
import type { Share } from './ask.ts';
import type { TakeReply } from './operations/take.ts';

/** A refusal as Redis gave it. */
export interface Refusal {
  readonly cost: number;
  readonly replies: readonly TakeReply[];
  /** Before the command left: it may pass again no earlier than this plus its wait. */
  readonly sentAt: number;
  /** When the answer came: by then the wait had begun. */
  readonly answeredAt: number;
}

export interface DenyCacheSettings {
  readonly maxEntries: number;
  readonly maxAgeMs: number;
}

/**
 * Remembers who is refused, so that a client that hammers on costs no command. A refusal holds for its own wait, and
 * no longer than `maxAgeMs`, since another process may have given quota back meanwhile. It speaks of its own cost and
 * limits only: a smaller cost may pass, and a larger one waits longer.
 */
export class DenyCache {
  readonly #refusals: LRUCache<string, Refusal & { readonly question: string }>;
  readonly #maxAgeMs: number;

  constructor({ maxEntries, maxAgeMs }: DenyCacheSettings) {
    this.#refusals = new LRUCache({ max: maxEntries });
    this.#maxAgeMs = maxAgeMs;
  }

  remember(share: Share, refusal: Refusal): void {
    this.#refusals.set(share.owner, { ...refusal, question: questionOf(share, refusal.cost) });
  }

  forget(owner: string): void {
    this.#refusals.delete(owner);
  }

  /** The answer of a refusal that still holds, with its waits counted down; undefined when Redis must be asked. */
  find(share: Share, cost: number): readonly TakeReply[] | undefined {
    const refusal = this.#refusals.get(share.owner);
    if (refusal === undefined || refusal.question !== questionOf(share, cost)) return undefined;
    const wait = Math.max(...refusal.replies.filter((reply) => !reply.allowed).map(waitOf));
    const now = performance.now();
    if (now - refusal.sentAt >= Math.min(wait, this.#maxAgeMs)) {
      this.#refusals.delete(share.owner);
      return undefined;
    }
    const passed = Math.floor(now - refusal.answeredAt);
    return refusal.replies.map((reply) => ({
      ...reply,
      waitMs: reply.waitMs > 0 ? Math.max(1, reply.waitMs - passed) : reply.waitMs,
      resetMs: reply.resetMs > 0 ? Math.max(1, reply.resetMs - passed) : 0,
    }));
  }
}

function questionOf({ policies }: Share, cost: number): string {
  return [cost, ...policies.map(({ policy, limit }) => `${policy.name} ${limit}`)].join();
}

function waitOf({ waitMs }: TakeReply): number {
  return waitMs < 0 ? Number.POSITIVE_INFINITY : waitMs;
}
