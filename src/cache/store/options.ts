import { describe, suggestion } from '../../base/describe.ts';
import { type Duration, durationMs } from '../../base/duration.ts';
import { ConfigError } from '../../base/errors.ts';
import { AMOUNT_NAMES, LIFETIME_NAMES, renamed } from '../../base/foreign-options.ts';
import type { OptionReader } from '../../base/option-reader.ts';
import { collectItems, readSettings } from '../../base/settings.ts';
import { timerOption } from '../../base/timed-options.ts';

/* The options that kit.cache and kit.remember share. */

/** One request runs the handler or the loader, and the other requests for the same key wait for it. */
export interface SingleFlightOptions {
  /** How long others wait for a process that has died; renewed while the handler or loader runs. Default `'5s'`. */
  readonly lease?: Duration | undefined;
  /** How long a request waits for another one before it runs the handler or loader itself. Default `'10s'`. */
  readonly wait?: Duration | undefined;
}

/** The options of local copies: the entries that each process keeps in memory. */
export interface LocalOptions {
  /** The most bytes for the copies of this cache. By default, all caches without `maxBytes` share 64 MiB. */
  readonly maxBytes?: number | undefined;
  /** How long a copy is used without a command to Redis; a purge invalidates it sooner. Default `'5s'`. */
  readonly maxAge?: Duration | undefined;
}

/** Lifetimes and a limit for several caches, which name the policy: `createRedisKit({ cachePolicies })`. */
export interface CachePolicy {
  /** How long an entry stays fresh. */
  readonly ttl: Duration;
  /** The most entries under this policy; beyond that, those that would expire first are deleted. Default: unlimited. */
  readonly maxEntries?: number | undefined;
  /** How long after its `ttl` a stale entry is used while it is refreshed. Default: not at all. */
  readonly staleWhileRevalidate?: Duration | undefined;
  /** The fraction of `ttl`, 0 to 1, by which lifetimes are shortened at random to spread expirations. Default 0. */
  readonly jitter?: number | undefined;
}

export interface SharedSettings {
  readonly singleFlight: { readonly leaseMs: number; readonly waitMs: number } | undefined;
  readonly local: { readonly maxBytes: number | undefined; readonly maxAgeMs: number } | undefined;
}

export interface CachePolicySettings {
  readonly name: string;
  readonly ttl: number;
  readonly maxEntries: number | undefined;
  readonly staleWhileRevalidate: number | undefined;
  readonly jitter: number | undefined;
}

/** A named policy with `maxEntries`. */
export interface BoundedPolicy {
  readonly name: string;
  readonly maxEntries: number;
}

/** The part of a policy that limits its entries; undefined for a policy without `maxEntries`. */
export function boundedPolicy(policy: CachePolicySettings | undefined): BoundedPolicy | undefined {
  return policy?.maxEntries === undefined ? undefined : { name: policy.name, maxEntries: policy.maxEntries };
}

export type CachePolicies = ReadonlyMap<string, CachePolicySettings>;

export const SHARED_OPTION_NAMES = ['singleFlight', 'local'] as const;

const DEFAULT_SINGLE_FLIGHT = Object.freeze({ leaseMs: 5_000, waitMs: 10_000 });

const DEFAULT_LOCAL = Object.freeze({ maxBytes: undefined, maxAgeMs: 5_000 });

const LOCAL_NAMES = {
  known: ['maxBytes', 'maxAge'],
  elsewhere: { ...renamed('maxAge', 'ttl', 'expire', 'duration'), ...renamed('maxBytes', 'max', 'maxSize') },
};

const POLICY_NAMES = {
  known: ['ttl', 'maxEntries', 'staleWhileRevalidate', 'jitter'],
  elsewhere: { ...renamed('ttl', ...LIFETIME_NAMES), ...renamed('maxEntries', ...AMOUNT_NAMES) },
};

/** The most tags of one entry: each tag is a key of one script call, and the number of keys is limited. */
const MAX_TAGS = 256;

export function singleFlightOption(reader: OptionReader): SharedSettings['singleFlight'] {
  const value = reader.value('singleFlight') ?? undefined;
  if (value === false) return undefined;
  if (value === undefined) return DEFAULT_SINGLE_FLIGHT;
  const names = { known: ['lease', 'wait'] };
  return readSettings(`${reader.where}: singleFlight`, value, names, (inner) => ({
    leaseMs: () => inner.duration('lease') ?? DEFAULT_SINGLE_FLIGHT.leaseMs,
    waitMs: () => timerOption(inner, 'wait', DEFAULT_SINGLE_FLIGHT.waitMs),
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

export function resolveCachePolicies(value: unknown): CachePolicies {
  if (value === undefined) return new Map();
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConfigError(
      `createRedisKit: option \`cachePolicies\` must be an object of policies by name, like { pages: { ttl: '1m' } }`,
    );
  }
  const readers = Object.entries(value).map(
    ([name, policy]) =>
      () =>
        resolveCachePolicy(name, policy),
  );
  return new Map(collectItems(readers).map((policy) => [policy.name, policy]));
}

function resolveCachePolicy(name: string, options: unknown): CachePolicySettings {
  return readSettings(`createRedisKit: cachePolicies.${name}`, options, POLICY_NAMES, (reader) => ({
    name: () => name,
    ttl: () => reader.requiredDuration('ttl'),
    maxEntries: () => reader.integer('maxEntries', { min: 1, max: 10_000_000 }),
    staleWhileRevalidate: () => reader.duration('staleWhileRevalidate'),
    jitter: () => jitterOption(reader),
  }));
}

/** The policy that the option `policy` names; undefined without the option. */
export function policyOption(reader: OptionReader, policies: CachePolicies): CachePolicySettings | undefined {
  const name = reader.string('policy');
  if (name === undefined) return undefined;
  const policy = policies.get(name);
  if (policy !== undefined) return policy;
  throw reader.error(
    'policy',
    policies.size === 0
      ? 'it must name one of createRedisKit({ cachePolicies }), and there are none'
      : `it must name one of createRedisKit({ cachePolicies }); ${suggestion(name, 'policies', [...policies.keys()])}`,
  );
}

export function jitterOption(reader: OptionReader): number | undefined {
  const jitter = reader.value('jitter');
  if (jitter === undefined || (typeof jitter === 'number' && jitter >= 0 && jitter <= 1)) return jitter;
  throw reader.error(
    'jitter',
    'it must be a number from 0 to 1, the largest fraction taken off the lifetime',
  );
}

/** Checks the tags that an option, a callback or a handler gives. */
export function checkTags(where: string, tags: unknown): readonly string[] {
  const list: unknown = typeof tags === 'string' ? [tags] : (tags ?? []);
  if (Array.isArray(list) && list.length <= MAX_TAGS) {
    if (list.every((tag): tag is string => typeof tag === 'string' && tag !== '')) return list;
  }
  throw new ConfigError(
    `${where} are ${describe(tags)}; they must be at most ${MAX_TAGS} strings that are not empty`,
  );
}

/** The lifetime that a callback returned, in milliseconds. Throws if it is not a duration. */
export function checkTtl(where: string, ttl: unknown): number {
  const ms = durationMs(ttl);
  if (ms !== undefined) return ms;
  throw new ConfigError(
    `${where} returned ${describe(ttl)}; it must return a duration like '30s', or false to store nothing`,
  );
}
