import { LRUCache } from 'lru-cache';

/** What an entry costs besides its key and value: a place in a Map and in the lists of the LRU cache, measured. */
const OVERHEAD_BYTES = 150;

/**
 * A map by keys that clients choose, within a number of bytes; the entry that was used least recently goes first. Unlike
 * an LRU cache of so many entries it takes no memory in advance, and long keys leave room for fewer of them.
 */
export class BoundedMap<Value extends NonNullable<unknown>> {
  readonly #entries: LRUCache<string, Value>;

  /** `bytesOf`: what a value costs; default: nothing to speak of. `dropped` gets each value that goes, whatever the reason. */
  constructor(
    maxBytes: number,
    bytesOf: (value: Value) => number = () => 0,
    dropped?: (value: Value) => void,
  ) {
    this.#entries = new LRUCache({
      maxSize: maxBytes,
      maxEntrySize: maxBytes,
      sizeCalculation: (value, key) => key.length * 2 + bytesOf(value) + OVERHEAD_BYTES,
      ...(dropped === undefined ? {} : { dispose: dropped }),
    });
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): Value | undefined {
    return this.#entries.get(key);
  }

  /** Without counting as a use. */
  peek(key: string): Value | undefined {
    return this.#entries.peek(key);
  }

  set(key: string, value: Value): void {
    this.#entries.set(ownText(key), value);
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }
}

/** The same text in memory of its own: V8 makes a slice refer to the whole of what it is a slice of, a URL of 16 kB for example. */
export function ownText(text: string): string {
  return ` ${text}`.slice(1);
}
