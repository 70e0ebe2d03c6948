import type { Duration } from '../base/duration.ts';
import { LIFETIME_NAMES, renamed } from '../base/foreign-options.ts';
import type { OptionReader } from '../base/option-reader.ts';
import { readSettings } from '../base/settings.ts';
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

const DEFAULT_IDLE_MS = 30 * 60_000;

/** connect-redis's own default. */
const PLAIN_IDLE_MS = 86_400_000;

const NAMES = ['idle', 'touchAfter', 'maxBytes', 'prefix', 'compatible'] as const;

/** What users of connect-redis look for. */
const ELSEWHERE = {
  ...renamed('idle', ...LIFETIME_NAMES),
  ...renamed('touchAfter', 'touchInterval'),
  disableTouch: 'it is `touchAfter` here: how seldom the use of a session is written',
  keyPrefix: "it is `prefix` with `compatible: 'connect-redis'`; for other keys use kit.namespace()",
  scanCount: 'leave it out',
};

export function resolveStoreOptions(options: StoreOptions): StoreSettings {
  return readSettings('kit.sessionStore', options, { known: NAMES, elsewhere: ELSEWHERE }, (reader) => ({
    idle: () => idleOption(reader),
    touchAfter: () => touchAfterOption(reader, () => idleOption(reader)),
    maxBytes: () => valueSizeOption(reader, 'maxBytes'),
    plainPrefix: () => prefixOption(reader),
  }));
}

function isPlain(reader: OptionReader): boolean {
  if (!reader.has('compatible')) return false;
  return reader.oneOf('compatible', ['connect-redis'], 'connect-redis') === 'connect-redis';
}

function idleOption(reader: OptionReader): number {
  return reader.duration('idle') ?? (isPlain(reader) ? PLAIN_IDLE_MS : DEFAULT_IDLE_MS);
}

function prefixOption(reader: OptionReader): string | undefined {
  if (isPlain(reader)) return reader.string('prefix') ?? 'sess:';
  if (!reader.has('prefix')) return undefined;
  throw reader.error(
    'prefix',
    `only \`compatible: 'connect-redis'\` has one; for other keys use kit.namespace()`,
  );
}

/** How often the idle deadline is moved at most. */
export function touchAfterOption(reader: OptionReader, idleOf: () => number): number {
  // Deadlines are whole milliseconds, so moving them by 1 ms or more is moving them with every use.
  if (reader.value('touchAfter') === 0) return 1;
  const touchAfter = reader.duration('touchAfter');
  const idle = idleOf();
  if (touchAfter === undefined) return Math.max(1, Math.min(MAX_TOUCH_AFTER_MS, Math.floor(idle / 10)));
  if (touchAfter >= idle) throw reader.error('touchAfter', 'it must be shorter than `idle`');
  return touchAfter;
}
