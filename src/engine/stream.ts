import type { Collection } from './collection.ts';

/** An entry with its only field. Its id is `<milliseconds>-<sequence>`. */
export type StreamEntry = readonly [id: string, field: string, value: string];

/** Bytes of an entry besides its value: the array, the three strings' headers and the id. */
const ENTRY_BYTES = 200;

/** The id before all others. */
export const FIRST_STREAM_ID = '0-0';

/** A Redis Stream for the in-memory implementations. Its ids never go back, even if the clock does. */
export class Stream implements Collection {
  readonly #entries: StreamEntry[] = [];
  #lastId = FIRST_STREAM_ID;
  #bytes = 0;

  /** An empty stream is kept, since its last id must not be used again. */
  get isEmpty(): boolean {
    return false;
  }

  get byteLength(): number {
    return this.#bytes;
  }

  pack(): Buffer {
    return Buffer.from(JSON.stringify([this.#lastId, this.#entries]));
  }

  /** Adds an entry, as XADD with the id `*` does, and returns its id. */
  add(now: number, field: string, value: string): string {
    const [ms, sequence] = partsOf(this.#lastId);
    this.#lastId = now > ms ? `${now}-0` : `${ms}-${sequence + 1}`;
    this.#entries.push([this.#lastId, field, value]);
    this.#bytes += streamEntryBytes(value);
    return this.#lastId;
  }

  /** Removes the oldest entries until `length` are left. */
  trim(length: number): void {
    const removed = this.#entries.splice(0, Math.max(0, this.#entries.length - length));
    for (const [, , value] of removed) this.#bytes -= streamEntryBytes(value);
  }

  /** The last `count` entries, oldest first. */
  last(count: number): readonly StreamEntry[] {
    return this.#entries.slice(-count);
  }

  /** The first `count` entries with a greater id, oldest first. */
  after(id: string, count: number): readonly StreamEntry[] {
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const entry = this.#entries[middle];
      if (entry !== undefined && compareStreamIds(entry[0], id) <= 0) low = middle + 1;
      else high = middle;
    }
    return this.#entries.slice(low, low + count);
  }
}

/** V8 takes two bytes for each character of text that is not Latin-1. */
export function streamEntryBytes(value: string): number {
  return value.length * 2 + ENTRY_BYTES;
}

/** Negative if `a` is before `b`. */
export function compareStreamIds(a: string, b: string): number {
  const [ms, sequence] = partsOf(a);
  const [otherMs, otherSequence] = partsOf(b);
  return ms - otherMs || sequence - otherSequence;
}

function partsOf(id: string): readonly [ms: number, sequence: number] {
  const dash = id.indexOf('-');
  return [Number(id.slice(0, dash)), Number(id.slice(dash + 1))];
}
