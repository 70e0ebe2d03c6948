import { describe } from '../../base/describe.ts';
import { asError, ConfigError, closedError } from '../../base/errors.ts';
import { OptionReader } from '../../base/option-reader.ts';
import { callInBackground } from '../../http/run-middleware.ts';
import type { Loader, RememberedValues, ValuesDeps } from './remember.ts';
import type { RememberOptions } from './remember-options.ts';

/** A value to load and to store under a key of kit.remember. */
export interface WarmEntry extends RememberOptions {
  readonly key: string;
  readonly load: Loader<unknown>;
}

export interface WarmOptions {
  /** The number of loaders that run concurrently. Default 4. */
  readonly concurrency?: number | undefined;
  /** Called after each entry; `total` is undefined if the entries have neither `length` nor `size`. */
  readonly onProgress?: ((done: number, total: number | undefined) => void) | undefined;
}

export interface WarmResult {
  readonly stored: number;
  /** The entries whose loader or write failed (emitted as `error`), or whose value is not stored (`cache:skipped`). */
  readonly failed: number;
}

/** How long a value stays fresh if its entry has neither `ttl` nor `policy`. */
const DEFAULT_TTL = '5m';

/** Loads and stores values ahead of their first use. Takes an entry from the iterator only when its loader can run. */
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
  if (closing.aborted) throw closedError();
  const total = sizeOf(entries);
  const reportFailure = (error: unknown) => reporter.failure('cache', asError(error));
  let stored = 0;
  let failed = 0;
  let isRejected = false;

  async function warm({ key, load, ...rest }: WarmEntry): Promise<boolean> {
    const ttl = rest.ttl ?? (rest.policy === undefined ? DEFAULT_TTL : undefined);
    // Throws for invalid options, a mistake in the app that the other entries probably share: kit.warm rejects.
    const storing = values.loadAndStore('kit.warm', key, { ...rest, ttl }, load);
    try {
      return await storing;
    } catch (error) {
      reportFailure(error);
      return false;
    }
  }

  async function work(): Promise<void> {
    while (!(closing.aborted || isRejected)) {
      const { done, value } = await iterator.next();
      if (done === true) return;
      if (await warm(value)) stored++;
      else failed++;
      if (onProgress !== undefined) callInBackground(() => onProgress(stored + failed, total), reportFailure);
    }
  }

  try {
    await Promise.all(Array.from({ length: concurrency }, work));
  } catch (error) {
    isRejected = true;
    throw error;
  }
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
    `kit.warm: the entries are ${describe(entries)}; they must be an array or another iterable`,
  );
}

function sizeOf(entries: object): number | undefined {
  const { length, size = length } = entries as { readonly length?: unknown; readonly size?: unknown };
  return typeof size === 'number' ? size : undefined;
}
