import { asError, StoreError } from '../base/errors.ts';
import type { Keys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Budget } from '../engine/budget.ts';
import type { Engine } from '../engine/port.ts';
import { cacheRead } from '../operations/cache-read.ts';
import { cacheWrite } from '../operations/cache-write.ts';
import { type CacheEntry, packEntry, unpackEntry } from './entry.ts';

/** What every cache of a kit shares. */
export interface CacheDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
}

export interface Hit {
  readonly entry: CacheEntry;
  /** Milliseconds since it was stored. */
  readonly ageMs: number;
  /** Milliseconds for which it stays fresh. */
  readonly leftMs: number;
}

/** Stored responses, without HTTP. Trouble with the store is told and never an error: the handler runs instead. */
export class ResponseCache {
  readonly #deps: CacheDeps;

  constructor(deps: CacheDeps) {
    this.#deps = deps;
  }

  async find(id: string, budget: Budget): Promise<Hit | undefined> {
    const { engine, keys, reporter } = this.#deps;
    try {
      const { found, payload, age, left } = await engine.run(cacheRead, [keys.cache(id)], undefined, budget);
      const entry = payload === null ? undefined : unpackEntry(payload);
      if (entry !== undefined) return { entry, ageMs: age, leftMs: left };
      if (found === 'corrupt' || payload !== null) {
        reporter.failure(
          'cache',
          new StoreError('ERR_REDIS_KIT_CORRUPT', 'a stored response cannot be read and counts as absent'),
        );
      }
    } catch (error) {
      reporter.failure('cache', asError(error));
    }
    return undefined;
  }

  /** Stores a response; resolves to its size in bytes, or undefined when it could not be stored. */
  async store(id: string, entry: CacheEntry, ttl: number): Promise<number | undefined> {
    const { engine, keys, reporter } = this.#deps;
    try {
      const payload = packEntry(entry);
      return (await engine.run(cacheWrite, [keys.cache(id)], { ttl, payload })) ? payload.length : undefined;
    } catch (error) {
      reporter.failure('cache', asError(error));
      return undefined;
    }
  }
}
