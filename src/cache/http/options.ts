import type { IncomingMessage } from 'node:http';
import { describe } from '../../base/describe.ts';
import type { Duration } from '../../base/duration.ts';
import { LIFETIME_NAMES, renamed } from '../../base/foreign-options.ts';
import type { Keys } from '../../base/keys.ts';
import type { OptionReader } from '../../base/option-reader.ts';
import type { Reporter } from '../../base/reporter.ts';
import { readSettings } from '../../base/settings.ts';
import { valueSizeOption } from '../../base/size-options.ts';
import type { RequestDeadlines } from '../../engine/deadline.ts';
import type { Front } from '../../http/front.ts';
import type { Req, Res } from '../../http/middleware.ts';
import { checkNotMounted } from '../../http/mount-check.ts';
import type { OnDisconnect } from '../../http/response/disconnect-watch.ts';
import type { EntryCache } from '../store/entry-cache.ts';
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
import type { Versions } from '../store/versions.ts';
import type { CachedResponse } from './cached-response.ts';
import { type KeyOptions, type KeySettings, namesOption, resolveKeyOptions } from './key-options.ts';

export interface CacheOptions<Request extends IncomingMessage = Req> {
  /**
   * How long a response stays fresh, or a function of the request and the response, called when the head is complete;
   * false stores nothing. Without `ttl`, a response is stored only if its own headers allow storing (RFC 9111). With
   * `ttl`, a response with no-store or private, or with a cookie, is still not stored.
   */
  readonly ttl?: Duration | ((req: Request, res: Res) => Duration | false) | undefined;
  /** The name of a policy of `createRedisKit({ cachePolicies })`, which gives the defaults of these options. */
  readonly policy?: string | undefined;
  /** How long a stale response is sent while a refresh runs (RFC 5861). Default: the value in the response. */
  readonly staleWhileRevalidate?: Duration | undefined;
  /** How long a stale response replaces a 500, 502, 503 or 504 (RFC 5861). Default: the value in the response. */
  readonly staleIfError?: Duration | undefined;
  /** The largest fraction of the lifetime, from 0 to 1, by which the lifetime is shortened at random. Default 0. */
  readonly jitter?: number | undefined;
  /** The parts of the request that select the stored response. Default: host and URL as the client sent them. */
  readonly key?: KeyOptions<Request> | ((req: Request) => string | false) | undefined;
  /**
   * Properties of the request, besides `req.session` and `req.user`, that identify its user, for example `['auth',
   * 'oidc']`. A response whose handler read such a property is stored only with `key.session`. Default: none.
   */
  readonly identities?: readonly string[] | undefined;
  /** The tags by which a response can be invalidated; `req.cache.tag()` adds to them. */
  readonly tags?: readonly string[] | ((req: Request, res: Res) => readonly string[]) | undefined;
  readonly vary?:
    | {
        /** The most variants of one key; the oldest is removed first. Default 16. */
        readonly maxVariants?: number | undefined;
        /** The only request headers that a stored response may vary on. Default: all. */
        readonly allow?: readonly string[] | undefined;
      }
    | undefined;
  /** The statuses that are stored. Default: 200 with `ttl`, else all that the headers allow. */
  readonly statuses?: readonly number[] | undefined;
  /**
   * Whether a response without an explicit lifetime is fresh for a tenth of the time since Last-Modified, at most a day
   * (RFC 9111, section 4.2.2). Default false.
   */
  readonly heuristics?: boolean | undefined;
  /** The largest body that is stored, in bytes. A larger body is sent and not stored. Default 1 MiB. */
  readonly maxBody?: number | undefined;
  /** Whether a GET with a body is cached, though the key omits the body. Default false: it bypasses the cache. */
  readonly ignoreBody?: boolean | undefined;
  /**
   * Whether to store a response that the handler ended after its client had disconnected. `'detect'` (the default):
   * yes, unless the handler may have noticed the disconnect and ended the response early. `'keep'`: yes. `'drop'`: no.
   */
  readonly onDisconnect?: OnDisconnect | undefined;
  /**
   * How one request runs the handler while concurrent requests for the key wait for its response, in all processes.
   * With false, each request runs the handler.
   */
  readonly singleFlight?: false | SingleFlightOptions | undefined;
  /** The local copies that each process keeps in memory; false for none. */
  readonly local?: false | LocalOptions | undefined;
  /**
   * Whether the cache obeys the Cache-Control of requests (no-cache, max-age=0, only-if-cached, ...). Default
   * `'ignore'`: no client can bypass the cache by a header.
   */
  readonly requestDirectives?: 'honor' | 'ignore' | undefined;
  /** The Cache-Control that clients get; false removes the field. Default: the one in the response. */
  readonly downstream?: string | false | undefined;
  /** The cache name in the Cache-Status field (RFC 9211): true for `redis-kit`, false for no field. Default true. */
  readonly cacheStatus?: boolean | string | undefined;
  /** Whether Cache-Status shows the key and why a response is not stored. For development only. Default false. */
  readonly debug?: boolean | undefined;
  /** Returns true for requests that bypass the cache. */
  readonly skip?: ((req: Request) => boolean) | undefined;
  /**
   * Whether `kit.front` may answer requests with the local copies of this cache before the app runs, and so without the
   * middleware above the cache. Not with a function as `key`, `key.session` or `skip`. Default false.
   */
  readonly front?: boolean | undefined;
}

export interface CacheSettings extends SharedSettings {
  readonly ttl: number | ((req: Req, res: Res) => Duration | false) | undefined;
  readonly policy: BoundedPolicy | undefined;
  readonly staleWhileRevalidate: number | undefined;
  readonly staleIfError: number | undefined;
  readonly jitter: number;
  readonly key: KeySettings;
  readonly identities: readonly string[];
  readonly tags: readonly string[] | ((req: Req, res: Res) => readonly string[]);
  readonly maxVariants: number;
  readonly mayVaryOn: ReadonlySet<string> | undefined;
  readonly statuses: ReadonlySet<number> | undefined;
  readonly heuristics: boolean;
  readonly maxBody: number;
  readonly ignoreBody: boolean;
  readonly onDisconnect: OnDisconnect;
  readonly honorsDirectives: boolean;
  readonly downstream: string | false | undefined;
  /** The cache name in Cache-Status; undefined for no field. */
  readonly cacheStatus: string | undefined;
  readonly debug: boolean;
  readonly skip: ((req: Req) => boolean) | undefined;
  readonly front: boolean;
}

export interface CacheDependencies {
  readonly keys: Keys;
  readonly reporter: Reporter;
  readonly deadlines: RequestDeadlines;
  readonly front: Front;
  readonly caches: { readonly responses: EntryCache<CachedResponse>; readonly versions: Versions };
}

const NAMES = [
  ...['ttl', 'policy', 'staleWhileRevalidate', 'staleIfError', 'jitter', 'key', 'tags', 'vary', 'statuses'],
  ...['identities', 'ignoreBody', 'onDisconnect'],
  ...['heuristics', 'maxBody', 'requestDirectives', 'downstream', 'cacheStatus', 'debug', 'skip', 'front'],
  ...SHARED_OPTION_NAMES,
];

/** Option names of other cache packages, and the options to use in their place. */
const ELSEWHERE = {
  ...renamed('ttl', ...LIFETIME_NAMES, 'cacheDuration'),
  ...renamed('key', 'keyGenerator', 'appendKey', 'cacheKey'),
  ...renamed('statuses', 'statusCodes'),
  max: 'it is `maxEntries` of createRedisKit({ cachePolicies }), or `maxBody` for one response',
  maxEntries: 'it is `maxEntries` of createRedisKit({ cachePolicies })',
};

export function resolveCacheOptions(options: CacheOptions<never>, policies: CachePolicies): CacheSettings {
  checkNotMounted('kit.cache', options);
  const settings = readSettings('kit.cache', options, { known: NAMES, elsewhere: ELSEWHERE }, (reader) => ({
    singleFlight: () => singleFlightOption(reader),
    local: () => localOption(reader),
    ttl: () => ttlOption(reader),
    policy: () => policyOption(reader, policies),
    staleWhileRevalidate: () => reader.duration('staleWhileRevalidate'),
    staleIfError: () => reader.duration('staleIfError'),
    jitter: () => jitterOption(reader),
    key: () => resolveKeyOptions(reader),
    identities: () => namesOption(reader, 'identities'),
    tags: () => tagsOption(reader),
    vary: () => varyOption(reader),
    statuses: () => statusesOption(reader),
    heuristics: () => reader.boolean('heuristics', false),
    maxBody: () => valueSizeOption(reader, 'maxBody'),
    ignoreBody: () => reader.boolean('ignoreBody', false),
    onDisconnect: () => reader.oneOf('onDisconnect', ['detect', 'keep', 'drop'], 'detect'),
    honorsDirectives: () => reader.oneOf('requestDirectives', ['honor', 'ignore'], 'ignore') === 'honor',
    downstream: () => (reader.value('downstream') === false ? (false as const) : downstreamOption(reader)),
    cacheStatus: () => cacheStatusOption(reader),
    debug: () => reader.boolean('debug', false),
    skip: () => reader.callback<(req: Req) => boolean>('skip'),
    front: () => frontOption(reader),
  }));
  const { policy, vary, ...rest } = settings;
  return Object.freeze({
    ...rest,
    ...vary,
    policy: boundedPolicy(policy),
    ttl: rest.ttl ?? policy?.ttl,
    staleWhileRevalidate: rest.staleWhileRevalidate ?? policy?.staleWhileRevalidate,
    jitter: rest.jitter ?? policy?.jitter ?? 0,
  });
}

function varyOption(reader: OptionReader): Pick<CacheSettings, 'maxVariants' | 'mayVaryOn'> {
  const names = { known: ['maxVariants', 'allow'] };
  return readSettings('kit.cache: vary', reader.value('vary') ?? {}, names, (vary) => ({
    maxVariants: () => vary.integer('maxVariants', { min: 1, max: 1_000 }) ?? 16,
    mayVaryOn: () => allowOption(vary),
  }));
}

function ttlOption(reader: OptionReader): CacheSettings['ttl'] {
  if (typeof reader.value('ttl') === 'function')
    return reader.callback<(req: Req, res: Res) => Duration>('ttl');
  return reader.duration('ttl');
}

function tagsOption(reader: OptionReader): CacheSettings['tags'] {
  const value = reader.value('tags');
  if (typeof value === 'function') {
    return reader.callback<(req: Req, res: Res) => readonly string[]>('tags') ?? [];
  }
  if (typeof value === 'string') throw reader.error('tags', `it must be an array, like ['products']`);
  return checkTags('kit.cache: option `tags`: the tags', value);
}

function allowOption(vary: OptionReader): ReadonlySet<string> | undefined {
  const allow = vary.value('allow');
  if (allow === undefined) return undefined;
  if (Array.isArray(allow) && allow.every((name) => typeof name === 'string')) {
    return new Set(allow.map((name) => name.toLowerCase()));
  }
  throw vary.error('allow', `it must be an array of header names, like ['accept-encoding']`);
}

function statusesOption(reader: OptionReader): ReadonlySet<number> | undefined {
  const statuses = reader.value('statuses');
  if (statuses === undefined) return undefined;
  const isStatus = (status: unknown) =>
    Number.isInteger(status) && Number(status) >= 200 && Number(status) <= 599;
  if (!Array.isArray(statuses) || statuses.length === 0 || !statuses.every(isStatus)) {
    throw reader.error('statuses', 'it must be an array of statuses from 200 to 599, like [200, 404]');
  }
  const partial = statuses.find((status) => status === 206 || status === 304);
  if (partial !== undefined) {
    throw reader.error(
      'statuses',
      `${describe(partial)} is no whole response and cannot be stored; leave it out`,
    );
  }
  return new Set(statuses as number[]);
}

function frontOption(reader: OptionReader): boolean {
  const front = reader.boolean('front', false);
  if (!front) return false;
  const { custom, session } = resolveKeyOptions(reader);
  const callback = custom ? '`key`' : session ? '`key.session`' : reader.has('skip') ? '`skip`' : undefined;
  if (callback === undefined && reader.value('local') !== false) return true;
  throw reader.error(
    'front',
    callback === undefined
      ? 'the front sends local copies, which `local: false` turns off; remove one of the two'
      : `the front responds before the app runs, and ${callback} is a function that needs a request of the app; remove one of the two`,
  );
}

function downstreamOption(reader: OptionReader): string | undefined {
  const value = reader.string('downstream');
  if (value === undefined || /^[\t\x20-\x7e]+$/.test(value)) return value;
  throw reader.error('downstream', `it must be a value of Cache-Control, like 'public, max-age=0'`);
}

function cacheStatusOption(reader: OptionReader): string | undefined {
  const status = reader.value('cacheStatus') ?? true;
  if (status === true) return 'redis-kit';
  if (status === false) return undefined;
  // The name is a Token of structured fields, so that it needs no quotes (RFC 9211, section 2).
  if (typeof status === 'string' && /^[A-Za-z*][\w:/!#$%&'*+.^`|~-]*$/.test(status)) return status;
  throw reader.error('cacheStatus', `it must be true, false, or a name like 'shop-cache'`);
}
