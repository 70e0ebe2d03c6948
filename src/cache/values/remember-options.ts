import type { Duration } from '../../base/duration.ts';
import { ConfigError } from '../../base/errors.ts';
import { LIFETIME_NAMES, renamed } from '../../base/foreign-options.ts';
import type { OptionReader } from '../../base/option-reader.ts';
import { readSettings } from '../../base/settings.ts';
import { valueSizeOption } from '../../base/size-options.ts';
import type { LookupSettings } from '../store/cache-room.ts';
import type { Lifetime } from '../store/entry.ts';
import type { Bound } from '../store/entry-store.ts';
import type { LocalCopies } from '../store/local-copies.ts';
import { type CachePolicies, jitterOption, policyOption } from '../store/policies.ts';
import {
  checkTags,
  type LocalOptions,
  localOption,
  SHARED_OPTION_NAMES,
  type SharedSettings,
  type SingleFlightOptions,
  singleFlightOption,
} from '../store/shared-options.ts';

export interface RememberOptions {
  /** How long a value stays fresh. Required, here or by the policy. */
  readonly ttl?: Duration | undefined;
  /** A policy of `createRedisKit({ cachePolicies })`, for what is not said here. */
  readonly policy?: string | undefined;
  /** For how long after that it is returned while it is loaded anew. Default: not at all. */
  readonly staleWhileRevalidate?: Duration | undefined;
  /** For how long after that it is returned when loading it anew fails. Default: not at all. */
  readonly staleIfError?: Duration | undefined;
  /** The part of `ttl`, from 0 to 1, that each value loses at random. Default 0. */
  readonly jitter?: number | undefined;
  /** What the value may be invalidated by; `context.tag()` adds to them. */
  readonly tags?: readonly string[] | undefined;
  /** A value whose JSON has more bytes is returned, not stored, and emitted as `cache:skipped`. Default 1 MiB. */
  readonly maxBytes?: number | undefined;
  /** One caller loads what others wait for, in all processes; false: each loads its own. */
  readonly singleFlight?: false | SingleFlightOptions | undefined;
  /** The copies held in the process; of its `maxBytes` only the kit's own store is used here. */
  readonly local?: false | Pick<LocalOptions, 'maxAge'> | undefined;
}

export interface RememberSettings {
  readonly ttl: number;
  readonly staleWhileRevalidate: number;
  readonly staleIfError: number;
  readonly jitter: number;
  readonly tags: readonly string[];
  readonly maxBytes: number;
  readonly bound: Bound | undefined;
  readonly lookup: LookupSettings<string>;
}

const NAMES = {
  known: [
    ...['ttl', 'policy', 'staleWhileRevalidate', 'staleIfError', 'jitter', 'tags', 'maxBytes'],
    ...SHARED_OPTION_NAMES,
  ],
  elsewhere: {
    ...renamed('ttl', ...LIFETIME_NAMES),
    max: 'it is `maxEntries` of createRedisKit({ cachePolicies })',
    key: 'it is the first argument of kit.remember',
    keyGenerator: 'the key is the first argument of kit.remember',
  },
};

export function resolveRememberOptions(
  where: string,
  options: Duration | RememberOptions,
  policies: CachePolicies,
  copies: LocalCopies<string>,
): RememberSettings {
  const given = typeof options === 'object' && options !== null ? options : { ttl: options };
  // Read with each call, so without spreading, which would cost more than all else.
  const settings = readSettings(where, given, NAMES, (reader) => ({
    policy: () => policyOption(reader, policies),
    ttl: () => ttlOption(reader, policies),
    staleWhileRevalidate: () => reader.duration('staleWhileRevalidate'),
    staleIfError: () => reader.duration('staleIfError') ?? 0,
    jitter: () => jitterOption(reader),
    tags: () => checkTags(`${where}: option \`tags\``, reader.value('tags')),
    maxBytes: () => valueSizeOption(reader, 'maxBytes'),
    singleFlight: () => singleFlightOption(reader),
    local: () => sharedStoreOption(reader),
  }));
  const { policy, local } = settings;
  return {
    ttl: settings.ttl,
    staleWhileRevalidate: settings.staleWhileRevalidate ?? policy?.staleWhileRevalidate ?? 0,
    staleIfError: settings.staleIfError,
    jitter: settings.jitter ?? policy?.jitter ?? 0,
    tags: settings.tags,
    maxBytes: settings.maxBytes,
    bound:
      policy?.maxEntries === undefined ? undefined : { policy: policy.name, maxEntries: policy.maxEntries },
    lookup: {
      singleFlight: settings.singleFlight,
      local: local === undefined ? undefined : { copies, maxAgeMs: local.maxAgeMs },
    },
  };
}

function ttlOption(reader: OptionReader, policies: CachePolicies): number {
  const policy = policyOption(reader, policies);
  return policy === undefined ? reader.requiredDuration('ttl') : (reader.duration('ttl') ?? policy.ttl);
}

function sharedStoreOption(reader: OptionReader): SharedSettings['local'] {
  const local = localOption(reader);
  if (local?.maxBytes === undefined) return local;
  throw new ConfigError(
    `${reader.where}: local: option \`maxBytes\` is of kit.cache; remembered values share one store`,
  );
}

/** How long a value that is stored now may be used. */
export function valueLifetime({
  ttl,
  jitter,
  staleWhileRevalidate,
  staleIfError,
}: RememberSettings): Lifetime {
  return {
    freshMs: Math.max(1, Math.round(ttl * (1 - jitter * Math.random()))),
    staleWhileRevalidateMs: staleWhileRevalidate,
    staleIfErrorMs: staleIfError,
    ageMs: 0,
    isStrict: false,
    validatableMs: 0,
  };
}
