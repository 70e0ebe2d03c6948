import { LRUCache } from 'lru-cache';
import type { Entry } from './entry.ts';

/** What a copy costs besides its body and texts: the entry, its versions and the bookkeeping of both, measured. */
const OVERHEAD_BYTES = 1_200;

/** Entries held in this process, within a number of bytes; what was used least recently goes first. */
export class LocalCopies<Content> {
  readonly #entries: LRUCache<string, Entry<Content>>;

  constructor(maxBytes: number) {
    this.#entries = new LRUCache({
      maxSize: maxBytes,
      maxEntrySize: maxBytes,
      sizeCalculation: (entry, key) => entry.bytes + key.length * 2 + OVERHEAD_BYTES,
    });
  }

  get(key: string): Entry<Content> | undefined {
    return this.#entries.get(key);
  }

  put(key: string, entry: Entry<Content>): void {
    this.#entries.set(key, entry);
  }

  forget(key: string): void {
    this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }
}
