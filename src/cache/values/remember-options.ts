import type { Duration } from '../../base/duration.ts';
import { ConfigError } from '../../base/errors.ts';
import { LIFETIME_NAMES, renamed } from '../../base/foreign-options.ts';
import type { OptionReader } from '../../base/option-reader.ts';
import { readSettings } from '../../base/settings.ts';
import { valueSizeOption } from '../../base/size-options.ts';
import {
  type BoundedPolicy,
  boundedPolicy,
  type CachePolicies,
  checkTags,
  jitterOption,
  type LocalOptions,
  localOption,
  policyOption,
  SHARED_OPTION_NAMES,
  type SharedSettings,
  type SingleFlightOptions,
  singleFlightOption,
} from '../store/options.ts';

export interface RememberOptions {
  /** How long a value stays fresh. Required here or in the policy. */
  readonly ttl?: Duration | undefined;
  /** The name of a policy of `createRedisKit({ cachePolicies })`, which gives the defaults of these options. */
  readonly policy?: string | undefined;
  /** How long a stale value is returned while it is loaded again. Default: not at all. */
  readonly staleWhileRevalidate?: Duration | undefined;
  /** How long a stale value is returned if loading it again fails. Default: not at all. */
  readonly staleIfError?: Duration | undefined;
  /** The fraction of `ttl`, from 0 to 1, by which lifetimes are shortened at random. Default 0. */
  readonly jitter?: number | undefined;
  /** The tags by which the value can be invalidated; `context.tag()` adds to them. */
  readonly tags?: readonly string[] | undefined;
  /** A value whose JSON has more bytes is returned, not stored, and emitted as `cache:skipped`. Default 1 MiB. */
  readonly maxBytes?: number | undefined;
  /** One caller loads the value and all others wait for it, in all processes; false: each caller loads it. */
  readonly singleFlight?: false | SingleFlightOptions | undefined;
  /** The copies that each process keeps; false for none. */
  readonly local?: false | Pick<LocalOptions, 'maxAge'> | undefined;
}

export interface RememberSettings extends SharedSettings {
  readonly ttl: number;
  readonly staleWhileRevalidate: number;
  readonly staleIfError: number;
  readonly jitter: number;
  readonly tags: readonly string[];
  readonly maxBytes: number;
  readonly policy: BoundedPolicy | undefined;
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
): RememberSettings {
  const given = typeof options === 'object' && options !== null ? options : { ttl: options };
  // Read on each call, and so without spreading, which would cost more than everything else.
  const settings = readSettings(where, given, NAMES, (reader) => ({
    policy: () => policyOption(reader, policies),
    ttl: () => ttlOption(reader, policies),
    staleWhileRevalidate: () => reader.duration('staleWhileRevalidate'),
    staleIfError: () => reader.duration('staleIfError') ?? 0,
    jitter: () => jitterOption(reader),
    tags: () => checkTags(`${where}: option \`tags\``, reader.value('tags')),
    maxBytes: () => valueSizeOption(reader, 'maxBytes'),
    singleFlight: () => singleFlightOption(reader),
    local: () => localCopiesOption(reader),
  }));
  const { policy } = settings;
  return {
    ttl: settings.ttl,
    staleWhileRevalidate: settings.staleWhileRevalidate ?? policy?.staleWhileRevalidate ?? 0,
    staleIfError: settings.staleIfError,
    jitter: settings.jitter ?? policy?.jitter ?? 0,
    tags: settings.tags,
    maxBytes: settings.maxBytes,
    policy: boundedPolicy(policy),
    singleFlight: settings.singleFlight,
    local: settings.local,
  };
}

function ttlOption(reader: OptionReader, policies: CachePolicies): number {
  const policy = policyOption(reader, policies);
  return policy === undefined ? reader.requiredDuration('ttl') : (reader.duration('ttl') ?? policy.ttl);
}

function localCopiesOption(reader: OptionReader): SharedSettings['local'] {
  const local = localOption(reader);
  if (local?.maxBytes === undefined) return local;
  throw new ConfigError(
    `${reader.where}: local: option \`maxBytes\` is an option of kit.cache; all cached values share one limit`,
  );
}
