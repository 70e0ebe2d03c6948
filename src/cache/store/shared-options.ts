import { describe } from '../../base/describe.ts';
import { type Duration, durationMs } from '../../base/duration.ts';
import { RedisKitError } from '../../base/errors.ts';
import { renamed } from '../../base/foreign-options.ts';
import type { OptionReader } from '../../base/option-reader.ts';
import { readSettings } from '../../base/settings.ts';

/** Who makes what is missing while the others wait for it. */
export interface SingleFlightOptions {
  /** For how long other processes wait for one that may have died; renewed while it works. Default `'5s'`. */
  readonly lease?: Duration | undefined;
  /** How long a request waits for another's answer before it makes its own. Default `'10s'`. */
  readonly wait?: Duration | undefined;
}

/** The copies that each process holds. */
export interface LocalOptions {
  /** Bytes of an own store; default: one store of 64 MiB for all caches of the kit that do not say otherwise. */
  readonly maxBytes?: number | undefined;
  /** How long a copy is used without asking Redis. Purges reach it sooner. Default `'5s'`. */
  readonly maxAge?: Duration | undefined;
}

export interface SharedSettings {
  readonly singleFlight: { readonly leaseMs: number; readonly waitMs: number } | undefined;
  readonly local: { readonly maxBytes: number | undefined; readonly maxAgeMs: number } | undefined;
}

export const SHARED_OPTION_NAMES = ['singleFlight', 'local'] as const;

const DEFAULT_SINGLE_FLIGHT = Object.freeze({ leaseMs: 5_000, waitMs: 10_000 });

const DEFAULT_LOCAL = Object.freeze({ maxBytes: undefined, maxAgeMs: 5_000 });

const LOCAL_NAMES = {
  known: ['maxBytes', 'maxAge'],
  elsewhere: { ...renamed('maxAge', 'ttl', 'expire', 'duration'), ...renamed('maxBytes', 'max', 'maxSize') },
};

/** A message about one entry would hardly fit a script's arguments beyond this, and nobody means so many. */
const MOST_TAGS = 256;

export function singleFlightOption(reader: OptionReader): SharedSettings['singleFlight'] {
  const value = reader.value('singleFlight') ?? undefined;
  if (value === false) return undefined;
  if (value === undefined) return DEFAULT_SINGLE_FLIGHT;
  const names = { known: ['lease', 'wait'] };
  return readSettings(`${reader.where}: singleFlight`, value, names, (inner) => ({
    leaseMs: () => inner.duration('lease') ?? DEFAULT_SINGLE_FLIGHT.leaseMs,
    waitMs: () => inner.duration('wait') ?? DEFAULT_SINGLE_FLIGHT.waitMs,
  }));
}

export function localOption(reader: OptionReader): SharedSettings['local'] {
  const value = reader.value('local') ?? undefined;
  if (value === false) return undefined;
  if (value === undefined) return DEFAULT_LOCAL;
  return readSettings(`${reader.where}: local`, value, LOCAL_NAMES, (inner) => ({
    maxBytes: () => inner.integer('maxBytes', { min: 1, max: 2 ** 40 }),
    maxAgeMs: () => inner.duration('maxAge') ?? DEFAULT_LOCAL.maxAgeMs,
  }));
}

/** Tags as a callback or a handler gave them. */
export function checkTags(where: string, tags: unknown): readonly string[] {
  const list: unknown = typeof tags === 'string' ? [tags] : (tags ?? []);
  if (Array.isArray(list) && list.length <= MOST_TAGS) {
    if (list.every((tag): tag is string => typeof tag === 'string' && tag !== '')) return list;
  }
  throw new RedisKitError(
    'ERR_REDIS_KIT_CONFIG',
    `${where} are ${describe(tags)}; they must be at most ${MOST_TAGS} strings that are not empty`,
  );
}

/** A lifetime as a callback gave it. */
export function checkTtl(where: string, ttl: unknown): number {
  const ms = durationMs(ttl);
  if (ms !== undefined) return ms;
  throw new RedisKitError(
    'ERR_REDIS_KIT_CONFIG',
    `${where} returned ${describe(ttl)}; it must return a duration like '30s', or false to store nothing`,
  );
}
