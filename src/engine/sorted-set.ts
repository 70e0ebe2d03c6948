import { compareUtf8 } from '../base/utf8.ts';
import type { Collection } from './collection.ts';

export type SortedEntry = readonly [score: number, member: string];

/** Bytes of a member besides its characters: the string object, the score, the entry, and the Map and array slots. */
const MEMBER_BYTES = 120;

/**
 * A Redis sorted set for the in-memory implementations: ordered by score, then by member. The set is changed in place,
 * with a binary search, so that a waiter costs no more in a queue of thousands than in a short one.
 */
export class SortedSet implements Collection {
  readonly #scores = new Map<string, number>();
  readonly #entries: SortedEntry[] = [];
  #bytes = 0;

  get size(): number {
    return this.#entries.length;
  }

  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  get byteLength(): number {
    return this.#bytes;
  }

  pack(): Buffer {
    return packSortedSet(this.#entries);
  }

  /** A negative index counts from the end, as in `Array.at`. */
  at(index: number): SortedEntry | undefined {
    return this.#entries.at(index);
  }

  has(member: string): boolean {
    return this.#scores.has(member);
  }

  score(member: string): number | undefined {
    return this.#scores.get(member);
  }

  entries(): readonly SortedEntry[] {
    return this.#entries;
  }

  /** The number of entries that are not after this one, as `at` counts them. */
  countTo(entry: SortedEntry): number {
    const index = this.#indexOf(entry);
    const next = this.#entries[index];
    return next !== undefined && compare(next, entry) === 0 ? index + 1 : index;
  }

  /** The number of entries whose score is at most this. */
  countToScore(score: number): number {
    return this.#countWhile(([each]) => each <= score);
  }

  add(score: number, member: string): void {
    this.delete(member);
    const entry: SortedEntry = [score, member];
    this.#entries.splice(this.#indexOf(entry), 0, entry);
    this.#scores.set(member, score);
    this.#bytes += bytesOf(member);
  }

  delete(member: string): boolean {
    const score = this.#scores.get(member);
    if (score === undefined) return false;
    const index = this.#indexOf([score, member]);
    // V8 shifts an array without moving its other elements.
    if (index === 0) this.#entries.shift();
    else this.#entries.splice(index, 1);
    this.#scores.delete(member);
    this.#bytes -= bytesOf(member);
    return true;
  }

  /** The index of an entry, or the index at which it would be inserted. */
  #indexOf(entry: SortedEntry): number {
    const last = this.#entries.at(-1);
    if (last === undefined || compare(last, entry) < 0) return this.#entries.length;
    return this.#countWhile((other) => compare(other, entry) < 0);
  }

  /** The number of entries at the front for which this is true, by a binary search. */
  #countWhile(isBefore: (entry: SortedEntry) => boolean): number {
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#entries[middle];
      if (other !== undefined && isBefore(other)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export function bytesOf(member: string): number {
  return member.length + MEMBER_BYTES;
}

function compare([a, one]: SortedEntry, [b, other]: SortedEntry): number {
  return a - b || compareUtf8(one, other);
}

/** Parses the JSON of a sorted set: no entries for a missing key, undefined for bytes that are no sorted set. */
export function parseSortedSet(value: Buffer | undefined): readonly SortedEntry[] | undefined {
  if (value === undefined) return [];
  try {
    const entries: unknown = JSON.parse(value.toString());
    return Array.isArray(entries) ? (entries as readonly SortedEntry[]) : undefined;
  } catch {
    return undefined;
  }
}

export function packSortedSet(entries: readonly SortedEntry[]): Buffer {
  return Buffer.from(JSON.stringify([...entries].sort(compare)));
}
