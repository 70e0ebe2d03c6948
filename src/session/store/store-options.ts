import type { Duration } from '../../base/duration.ts';
import { LIFETIME_NAMES, renamed } from '../../base/foreign-options.ts';
import type { OptionReader } from '../../base/option-reader.ts';
import { readSettings } from '../../base/settings.ts';
import { valueSizeOption } from '../../base/size-options.ts';
import type { RecordSettings } from '../record-settings.ts';

export interface StoreOptions {
  /** How long an unused session lives if its cookie has no `maxAge`; default `'30m'`, or `'1d'` with `compatible`. */
  readonly idle?: Duration | undefined;
  /** The shortest time between moves of the expiry; 0 moves it with every use. Default `idle` / 10, at most 60 s. */
  readonly touchAfter?: Duration | undefined;
  /**
   * The most bytes that a session may take, with its data and cookie as JSON. For a larger session, `set` fails with
   * `ERR_REDIS_KIT_SESSION_DATA`, and the stored session does not change. Default 1 MiB.
   */
  readonly maxBytes?: number | undefined;
  /** The key prefix with `compatible: 'connect-redis'`, used instead of the kit's prefix; default `'sess:'`. */
  readonly prefix?: string | undefined;
  /** Uses the format and keys of connect-redis, so that an app can switch either way and users stay logged in. */
  readonly compatible?: 'connect-redis' | undefined;
}

export interface StoreSettings extends Pick<RecordSettings, 'idle' | 'touchAfter' | 'maxBytes'> {
  /** The prefix of connect-redis's keys; undefined in the kit's own format. */
  readonly connectRedisPrefix: string | undefined;
}

const MAX_TOUCH_AFTER_MS = 60_000;

export const DEFAULT_IDLE_MS: number = 30 * 60_000;

/** The default lifetime of a session in connect-redis: one day. */
const CONNECT_REDIS_IDLE_MS = 86_400_000;

const NAMES = ['idle', 'touchAfter', 'maxBytes', 'prefix', 'compatible'] as const;

/** Options of connect-redis, and what replaces them. */
const HINTS = {
  ...renamed('idle', ...LIFETIME_NAMES),
  ...renamed('touchAfter', 'touchInterval'),
  disableTouch: 'it is `touchAfter` here: how often the use of a session is written at most',
  keyPrefix: "it is `prefix` with `compatible: 'connect-redis'`; for other keys use kit.namespace()",
  scanCount: 'leave it out',
};

export function resolveStoreOptions(options: StoreOptions): StoreSettings {
  return readSettings('kit.sessionStore', options, { known: NAMES, elsewhere: HINTS }, (reader) => ({
    idle: () => idleOption(reader),
    touchAfter: () => touchAfterOption(reader, () => idleOption(reader)),
    maxBytes: () => valueSizeOption(reader, 'maxBytes'),
    connectRedisPrefix: () => prefixOption(reader),
  }));
}

function isConnectRedis(reader: OptionReader): boolean {
  if (!reader.has('compatible')) return false;
  return reader.oneOf('compatible', ['connect-redis'], 'connect-redis') === 'connect-redis';
}

function idleOption(reader: OptionReader): number {
  return reader.duration('idle') ?? (isConnectRedis(reader) ? CONNECT_REDIS_IDLE_MS : DEFAULT_IDLE_MS);
}

function prefixOption(reader: OptionReader): string | undefined {
  if (isConnectRedis(reader)) return reader.string('prefix') ?? 'sess:';
  if (!reader.has('prefix')) return undefined;
  throw reader.error(
    'prefix',
    `only \`compatible: 'connect-redis'\` has one; for other keys use kit.namespace()`,
  );
}

/** The shortest time between two moves of the idle deadline, in milliseconds. */
export function touchAfterOption(reader: OptionReader, idleOf: () => number): number {
  // Deadlines are whole milliseconds, so 1 ms moves them with every use.
  if (reader.value('touchAfter') === 0) return 1;
  const touchAfter = reader.duration('touchAfter');
  const idle = idleOf();
  if (touchAfter === undefined) return Math.max(1, Math.min(MAX_TOUCH_AFTER_MS, Math.floor(idle / 10)));
  if (touchAfter >= idle) throw reader.error('touchAfter', 'it must be shorter than `idle`');
  return touchAfter;
}
