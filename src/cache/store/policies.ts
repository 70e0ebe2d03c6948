import { suggestion } from '../../base/describe.ts';
import type { Duration } from '../../base/duration.ts';
import { ConfigError } from '../../base/errors.ts';
import { AMOUNT_NAMES, LIFETIME_NAMES, renamed } from '../../base/foreign-options.ts';
import type { OptionReader } from '../../base/option-reader.ts';
import { collectItems, readSettings } from '../../base/settings.ts';

/** A named set of lifetimes, so that caches of one kind are told once: `createRedisKit({ cachePolicies })`. */
export interface CachePolicy {
  /** How long what is stored stays fresh. */
  readonly ttl: Duration;
  /** The most entries under this policy; beyond them those go first that would end first. Default: any number. */
  readonly maxEntries?: number | undefined;
  /** For how long after that it is used while it is made anew. Default: not at all. */
  readonly staleWhileRevalidate?: Duration | undefined;
  /** The part of `ttl`, from 0 to 1, that each entry loses at random, so that they do not all end at once. Default 0. */
  readonly jitter?: number | undefined;
}

export interface CachePolicySettings {
  readonly name: string;
  readonly ttl: number;
  readonly maxEntries: number | undefined;
  readonly staleWhileRevalidate: number | undefined;
  readonly jitter: number | undefined;
}

export type CachePolicies = ReadonlyMap<string, CachePolicySettings>;

export function resolveCachePolicies(value: unknown): CachePolicies {
  if (value === undefined) return new Map();
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConfigError(
      `createRedisKit: option \`cachePolicies\` must be an object of policies by name, like { pages: { ttl: '1m' } }`,
    );
  }
  const policies = collectItems(
    Object.entries(value).map(
      ([name, policy]) =>
        () =>
          resolveCachePolicy(name, policy),
    ),
  );
  return new Map(policies.map((policy) => [policy.name, policy]));
}

const NAMES = {
  known: ['ttl', 'maxEntries', 'staleWhileRevalidate', 'jitter'],
  elsewhere: { ...renamed('ttl', ...LIFETIME_NAMES), ...renamed('maxEntries', ...AMOUNT_NAMES) },
};

function resolveCachePolicy(name: string, options: unknown): CachePolicySettings {
  return readSettings(`createRedisKit: cachePolicies.${name}`, options, NAMES, (reader) => ({
    name: () => name,
    ttl: () => reader.requiredDuration('ttl'),
    maxEntries: () => reader.integer('maxEntries', { min: 1, max: 10_000_000 }),
    staleWhileRevalidate: () => reader.duration('staleWhileRevalidate'),
    jitter: () => jitterOption(reader),
  }));
}

/** The policy that `policy` names, if it does. */
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
  throw reader.error('jitter', 'it must be a number from 0 to 1: the part of the lifetime that may go');
}
