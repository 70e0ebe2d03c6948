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
  /** How long a value stays fresh. Required unless `policy` is given. */
  readonly ttl?: Duration | undefined;
  /** The name of a policy in `createRedisKit({ cachePolicies })`, whose settings are the defaults of these options. */
  readonly policy?: string | undefined;
  /** How long after its `ttl` a stale value is returned while the loader refreshes it. Default: not at all. */
  readonly staleWhileRevalidate?: Duration | undefined;
  /** How long after its `ttl` a stale value is returned if the loader fails. Default: not at all. */
  readonly staleIfError?: Duration | undefined;
  /** The fraction of `ttl`, from 0 to 1, by which lifetimes are shortened at random. Default 0. */
  readonly jitter?: number | undefined;
  /** The tags by which the value can be invalidated; `context.tag()` adds to them. */
  readonly tags?: readonly string[] | undefined;
  /** The most bytes of JSON stored. A larger value is returned, and emitted as `cache:skipped`. Default 1 MiB. */
  readonly maxBytes?: number | undefined;
  /** By default one caller of all processes runs the loader and the others wait. `false`: each caller runs it. */
  readonly singleFlight?: false | SingleFlightOptions | undefined;
  /** The copies of values that each process keeps in memory; `false` for none. */
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
  // This function runs on each call. Spreading `settings` would cost more than the rest of the function.
  const settings = readSettings(where, given, NAMES, (reader) => ({
    policy: () => policyOption(reader, policies),
    ttl: () => ttlOption(reader, policies),
    staleWhileRevalidate: () => reader.duration('staleWhileRevalidate'),
    staleIfError: () => reader.duration('staleIfError') ?? 0,
    jitter: () => jitterOption(reader),
    tags: () => checkTags(`${where}: option \`tags\`: the tags`, reader.value('tags')),
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
