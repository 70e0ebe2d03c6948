import { OptionReader } from '../base/check.ts';
import type { Duration } from '../base/duration.ts';
import { valueSizeOption } from '../base/size-options.ts';

export interface StoreOptions {
  /**
   * A session whose cookie has no `maxAge` ends this long after its last use; default `'30m'`, with
   * `compatible: 'connect-redis'` its `'1d'`.
   */
  readonly idle?: Duration | undefined;
  /** The expiry is moved at most this often; 0: with every use. Default a tenth of `idle`, at most 60 s. */
  readonly touchAfter?: Duration | undefined;
  /**
   * The most bytes of a stored session, its data and cookie as JSON. `set` fails above it with
   * `ERR_REDIS_KIT_SESSION_DATA`, and the session stays as it was stored. Default 1 MiB.
   */
  readonly maxBytes?: number | undefined;
  /** What connect-redis's keys begin with, in place of the kit's own; default its `'sess:'`. */
  readonly prefix?: string | undefined;
  /** Reads and writes what connect-redis does, so that an app can change over, and back, without logging anyone out. */
  readonly compatible?: 'connect-redis' | undefined;
}

export interface StoreSettings {
  readonly idle: number;
  readonly touchAfter: number;
  readonly maxBytes: number;
  /** Of connect-redis's keys; undefined for our own. */
  readonly plainPrefix: string | undefined;
}

const MAX_TOUCH_AFTER_MS = 60_000;

export function resolveStoreOptions(options: StoreOptions): StoreSettings {
  const reader = new OptionReader('kit.sessionStore', options, [
    'idle',
    'touchAfter',
    'maxBytes',
    'prefix',
    'compatible',
  ]);
  const isPlain = reader.has('compatible');
  if (isPlain) reader.oneOf('compatible', ['connect-redis'], 'connect-redis');
  if (!isPlain && reader.has('prefix')) {
    throw reader.error(
      'prefix',
      `only \`compatible: 'connect-redis'\` has one; for other keys use kit.namespace()`,
    );
  }
  const idle = reader.duration('idle', isPlain ? '1d' : '30m');
  return {
    idle,
    touchAfter: touchAfterOption(reader, idle),
    maxBytes: valueSizeOption(reader, 'maxBytes'),
    plainPrefix: isPlain ? (reader.string('prefix') ?? 'sess:') : undefined,
  };
}

/** How often the idle deadline is moved at most. */
export function touchAfterOption(reader: OptionReader, idle: number): number {
  const usual = Math.max(1, Math.min(MAX_TOUCH_AFTER_MS, Math.floor(idle / 10)));
  // Deadlines are whole milliseconds, so moving them by 1 ms or more is moving them with every use.
  if (reader.value('touchAfter') === 0) return 1;
  const touchAfter = reader.duration('touchAfter', usual);
  if (touchAfter >= idle) throw reader.error('touchAfter', 'it must be shorter than `idle`');
  return touchAfter;
}
