import { performance } from 'node:perf_hooks';
import { LRUCache } from 'lru-cache';
import type { TakeReply } from '../operations/limit-take.ts';

/** A refusal as Redis gave it. */
export interface Refusal {
  /** The keys that it speaks of. */
  readonly keys: readonly string[];
  readonly limits: readonly number[];
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
 * no longer than `maxAgeMs`, since another process may have given quota back meanwhile.
 */
export class DenyCache {
  readonly #refusals: LRUCache<string, Refusal>;
  readonly #maxAgeMs: number;

  constructor({ maxEntries, maxAgeMs }: DenyCacheSettings) {
    this.#refusals = new LRUCache({ max: maxEntries });
    this.#maxAgeMs = maxAgeMs;
  }

  remember(id: string, refusal: Refusal): void {
    this.#refusals.set(id, refusal);
  }

  forget(id: string): void {
    this.#refusals.delete(id);
  }

  /** The answer of a refusal that still holds, with its waits counted down; undefined when Redis must be asked. */
  find(
    id: string,
    keys: readonly string[],
    limits: readonly number[],
    cost: number,
  ): readonly TakeReply[] | undefined {
    const refusal = this.#refusals.get(id);
    // A smaller cost may pass where a larger one did not, and so may any under a higher limit.
    if (refusal === undefined || cost < refusal.cost || !isSame(keys, refusal.keys)) return undefined;
    if (limits.some((limit, index) => limit > (refusal.limits[index] ?? 0))) return undefined;
    const wait = Math.max(...refusal.replies.filter((reply) => !reply.allowed).map(waitOf));
    const now = performance.now();
    if (now - refusal.sentAt >= Math.min(wait, this.#maxAgeMs)) {
      this.#refusals.delete(id);
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

function waitOf({ waitMs }: TakeReply): number {
  return waitMs < 0 ? Number.POSITIVE_INFINITY : waitMs;
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((key, index) => key === b[index]);
}
