import { LRUCache } from 'lru-cache';

/** Bytes that an entry takes besides its key and value, in the Map and the LRU lists (measured). */
const OVERHEAD_BYTES = 150;

/**
 * A least-recently-used map that is bounded in bytes, for keys that clients choose: long keys leave space for fewer
 * entries. Unlike an LRUCache with `max`, the map allocates nothing in advance.
 */
export class BoundedMap<Value extends NonNullable<unknown>> {
  readonly #entries: LRUCache<string, Value>;

  /** `bytesOf` returns the size of a value (default 0). `dropped` is called with each value that leaves the map. */
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

  /** Returns a value without marking its entry as used. */
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

/** Copies a string: in V8, a slice keeps alive the whole string that it was cut from, such as a URL of 16 kB. */
export function ownText(text: string): string {
  return ` ${text}`.slice(1);
}
