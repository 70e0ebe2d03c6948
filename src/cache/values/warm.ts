import { describe } from '../../base/describe.ts';
import { asError, ConfigError } from '../../base/errors.ts';
import { OptionReader } from '../../base/option-reader.ts';
import { callInBackground } from '../../http/run-middleware.ts';
import type { Load, RememberedValues, ValuesDeps } from './remember.ts';
import type { RememberOptions } from './remember-options.ts';

/** A value to load and store under the key of `kit.remember`. */
export interface WarmEntry extends RememberOptions {
  readonly key: string;
  readonly load: Load<unknown>;
}

export interface WarmOptions {
  /** How many load at once. Default 4. */
  readonly concurrency?: number | undefined;
  /** Told after each entry; `total` is undefined where the entries do not say how many they are. */
  readonly onProgress?: ((done: number, total: number | undefined) => void) | undefined;
}

export interface WarmResult {
  readonly stored: number;
  /** Entries whose load or write failed (emitted as `error`), or whose value may not be stored (`cache:skipped`). */
  readonly failed: number;
}

/** How long a value stays fresh that names neither `ttl` nor `policy`. */
const DEFAULT_TTL = '5m';

/** Loads values before anybody asks for them. Takes an entry only when one of `concurrency` is free for it. */
export async function warmUp(
  entries: Iterable<WarmEntry> | AsyncIterable<WarmEntry>,
  options: WarmOptions,
  values: RememberedValues,
  { reporter, closing }: ValuesDeps,
): Promise<WarmResult> {
  const reader = new OptionReader('kit.warm', options, ['concurrency', 'onProgress']);
  const concurrency = reader.integer('concurrency', { min: 1, max: 1_000 }) ?? 4;
  const onProgress = reader.callback<(done: number, total: number | undefined) => void>('onProgress');
  const iterator = iteratorOf(entries);
  const total = sizeOf(entries);
  const failedBy = (error: unknown) => reporter.failure('cache', asError(error));
  let stored = 0;
  let failed = 0;

  async function warm({ key, load, ...rest }: WarmEntry): Promise<boolean> {
    const ttl = rest.ttl ?? (rest.policy === undefined ? DEFAULT_TTL : undefined);
    try {
      return await values.renew('kit.warm', key, { ...rest, ttl }, load);
    } catch (error) {
      // The app's own mistake would be the same for every entry.
      if (error instanceof ConfigError) throw error;
      failedBy(error);
      return false;
    }
  }

  async function work(): Promise<void> {
    while (!closing.aborted) {
      const { done, value } = await iterator.next();
      if (done === true) return;
      if (await warm(value)) stored++;
      else failed++;
      if (onProgress !== undefined) callInBackground(() => onProgress(stored + failed, total), failedBy);
    }
  }

  await Promise.all(Array.from({ length: concurrency }, work));
  return { stored, failed };
}

function iteratorOf(
  entries: Iterable<WarmEntry> | AsyncIterable<WarmEntry>,
): Iterator<WarmEntry> | AsyncIterator<WarmEntry> {
  if (typeof entries === 'object' && entries !== null) {
    if (Symbol.asyncIterator in entries) return entries[Symbol.asyncIterator]();
    if (Symbol.iterator in entries) return entries[Symbol.iterator]();
  }
  throw new ConfigError(
    `kit.warm: the entries are ${describe(entries)}; they must be an array, or anything that can be iterated`,
  );
}

function sizeOf(entries: object): number | undefined {
  const { length, size = length } = entries as { readonly length?: unknown; readonly size?: unknown };
  return typeof size === 'number' ? size : undefined;
}
