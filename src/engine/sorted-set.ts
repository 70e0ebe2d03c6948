/* How the in-memory implementations keep a sorted set. */

export type SortedEntry = readonly [score: number, member: string];

/** What a member costs besides its characters: its string, its score, its entry and its place in Map and array. */
const MEMBER_BYTES = 120;

/**
 * A sorted set that is changed in place, as in Redis: by score, then by member. A change finds its place by halving, so
 * that a queue of thousands costs each of them no more than a short one does.
 */
export class SortedSet {
  readonly #scores = new Map<string, number>();
  readonly #entries: SortedEntry[] = [];
  #bytes = 0;

  get size(): number {
    return this.#entries.length;
  }

  get byteLength(): number {
    return this.#bytes;
  }

  /** Counted from 0, or with -1 from the end. */
  at(index: number): SortedEntry | undefined {
    return this.#entries.at(index);
  }

  has(member: string): boolean {
    return this.#scores.has(member);
  }

  entries(): readonly SortedEntry[] {
    return this.#entries;
  }

  add(score: number, member: string): void {
    this.delete(member);
    const entry: SortedEntry = [score, member];
    this.#entries.splice(this.#placeOf(entry), 0, entry);
    this.#scores.set(member, score);
    this.#bytes += bytesOf(member);
  }

  delete(member: string): boolean {
    const score = this.#scores.get(member);
    if (score === undefined) return false;
    const place = this.#placeOf([score, member]);
    // V8 takes the first of an array off without moving the others.
    if (place === 0) this.#entries.shift();
    else this.#entries.splice(place, 1);
    this.#scores.delete(member);
    this.#bytes -= bytesOf(member);
    return true;
  }

  /** Where an entry is, or would be. */
  #placeOf(entry: SortedEntry): number {
    const last = this.#entries.at(-1);
    if (last === undefined || compare(last, entry) < 0) return this.#entries.length;
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#entries[middle];
      if (other !== undefined && compare(other, entry) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** What a new member adds to the bytes of a set. */
export function bytesOf(member: string): number {
  return member.length + MEMBER_BYTES;
}

function compare([a, one]: SortedEntry, [b, other]: SortedEntry): number {
  return a - b || (one < other ? -1 : one > other ? 1 : 0);
}

/** Undefined for bytes that are none; empty where nothing is kept. */
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
