import { LRUCache } from 'lru-cache';
import { ownText } from '../../base/bounded-map.ts';
import type { Entry } from './entry.ts';

/** What a copy costs besides its body and key: headers, times, versions and the bookkeeping of all, measured. */
const OVERHEAD_BYTES = 2_400;

/** Entries held in this process, within a number of bytes; what was used least recently goes first. */
export class LocalCopies<Content> {
  readonly #entries: LRUCache<string, Entry<Content>>;

  /** Makes content that holds no more memory than itself. */
  readonly #detach: (content: Content) => Content;

  constructor(maxBytes: number, detach: (content: Content) => Content) {
    this.#detach = detach;
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
    const content = this.#detach(entry.content);
    this.#entries.set(ownText(key), content === entry.content ? entry : { ...entry, content });
  }

  forget(key: string): void {
    this.#entries.delete(key);
  }
}
