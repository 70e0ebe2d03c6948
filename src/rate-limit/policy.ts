import type { IncomingMessage } from 'node:http';
import { describe } from '../base/describe.ts';
import { type Duration, formatDuration } from '../base/duration.ts';
import { ConfigError } from '../base/errors.ts';
import { AMOUNT_NAMES, LIFETIME_NAMES, renamed } from '../base/foreign-options.ts';
import type { OptionReader } from '../base/option-reader.ts';
import { collectItems, collectSettings, readSettings } from '../base/settings.ts';
import type { Req } from '../http/middleware.ts';
import type { LimitAlgorithm, PolicyNumbers } from './operations/algorithm.ts';
import { slidingWindow } from './operations/sliding-window.ts';
import { tokenBucket } from './operations/token-bucket.ts';

/** Allows at most `limit` units in every span of length `window`, exactly, by the clock of the Redis server. */
export interface SlidingWindowPolicy {
  readonly algorithm: 'sliding-window';
  /** Units per window, 1 to 1,000,000,000. */
  readonly limit: number;
  readonly window: Duration;
  /**
   * The times of requests are rounded up to a multiple of the resolution, so that a key stores about window /
   * resolution entries of 8 bytes at most. The limit stays exact; a unit may come back later, by up to the resolution.
   * Default 1 ms.
   */
  readonly resolution?: Duration | undefined;
  /** Part of the Redis key and of the RateLimit fields. Default: built from the algorithm and its numbers. */
  readonly name?: string | undefined;
}

/** A bucket of `capacity` tokens that refills continuously: allows bursts up to the capacity, then the steady rate. */
export interface TokenBucketPolicy {
  readonly algorithm: 'token-bucket';
  /** The most tokens in the bucket, 1 to 1,000,000,000. Capacity times `refill.per` in ms must not exceed 2^51. */
  readonly capacity: number;
  /** The refill: `tokens` come back in each time `per`, continuously. */
  readonly refill: { readonly tokens: number; readonly per: Duration };
  /** Part of the Redis key and of the RateLimit fields. Default: built from the algorithm and its numbers. */
  readonly name?: string | undefined;
}

export type Policy = SlidingWindowPolicy | TokenBucketPolicy;

/** A policy of a middleware. `limit` or `capacity` may be a function of the request; then `name` is required. */
export type MiddlewarePolicy<Request extends IncomingMessage = Req> =
  | (Omit<SlidingWindowPolicy, 'limit'> & { readonly limit: number | ((req: Request) => number) })
  | (Omit<TokenBucketPolicy, 'capacity'> & { readonly capacity: number | ((req: Request) => number) });

export const POLICY_OPTION_NAMES = [
  'algorithm',
  'limit',
  'window',
  'resolution',
  'capacity',
  'refill',
  'name',
] as const;

export interface PolicySettings {
  readonly name: string;
  readonly algorithm: LimitAlgorithm;
  /** The limit in units, or a function that returns the limit for a request. */
  readonly limit: number | ((req: Req) => number);
  /** The refill of a token bucket; undefined for a sliding window. */
  readonly refill: { readonly tokens: number; readonly per: number } | undefined;
  /** Milliseconds until a fully used quota is completely available again. */
  windowMs(limit: number): number;
  /** Returns the policy's numbers for a limit. Throws a ConfigError if a function has returned a limit out of range. */
  numbers(limit: number): PolicyNumbers;
}

/** The units that come back while a process holds a batch, rounded up; 0 for a sliding window. */
export function refillDuring({ refill }: Pick<PolicySettings, 'refill'>, ms: number): number {
  return refill === undefined ? 0 : Math.ceil((refill.tokens * ms) / refill.per);
}

const LIMIT_RANGE = { min: 1, max: 1_000_000_000 } as const;

/** The most grains of a token bucket's capacity (see token-bucket.ts). With more, the sums would not be exact. */
const MAX_GRAINS = 2 ** 51;

/** Policy options of express-rate-limit and rate-limiter-flexible, and what replaces them. */
export const POLICY_HINTS: Readonly<Record<string, string>> = {
  ...renamed('window', ...LIFETIME_NAMES),
  ...renamed('limit', ...AMOUNT_NAMES),
  ...renamed('name', 'identifier'),
  interval: "it is `window` here, or `per` in `refill` of the algorithm 'token-bucket'",
  tokensPerInterval: "it is `tokens` in `refill` of the algorithm 'token-bucket'",
  keyPrefix: '`name` keeps two limiters apart; createRedisKit({ prefix }) begins every key',
  prefix: '`name` keeps two limiters apart; createRedisKit({ prefix }) begins every key',
  blockDuration: 'a limiter with `block` is the `limiter` of a middleware: kit.rateLimit({ block })',
  key: 'the id is given with each call: limiter.consume(id)',
};

/** Reads a policy that is the only argument of a call, as in `kit.limiter(policy)`. */
export function readPolicy(where: string, options: unknown): PolicySettings {
  const names = { known: POLICY_OPTION_NAMES, elsewhere: POLICY_HINTS };
  return readSettings(where, options, names, (reader) => ({ policy: () => resolvePolicy(reader, false) }))
    .policy;
}

/** `perRequest`: whether the limit may be a function of the request. */
export function resolvePolicy(reader: OptionReader, perRequest: boolean): PolicySettings {
  const algorithm = reader.oneOf('algorithm', ['sliding-window', 'token-bucket', undefined], undefined);
  if (algorithm === undefined)
    throw reader.error('algorithm', `it must be 'sliding-window' or 'token-bucket'`);
  return Object.freeze(
    algorithm === 'sliding-window'
      ? resolveSlidingWindow(reader, perRequest)
      : resolveTokenBucket(reader, perRequest),
  );
}

function resolveSlidingWindow(reader: OptionReader, perRequest: boolean): PolicySettings {
  const limitOf = () => limitOption(reader, 'limit', perRequest);
  const windowOf = () => reader.requiredDuration('window');
  const { limit, windowMs, resolution, name } = collectSettings({
    limit: limitOf,
    windowMs: windowOf,
    resolution: () => resolutionOption(reader),
    name: () =>
      nameOption(reader, limitOf, (units) => `sliding-window-${units}-${formatDuration(windowOf())}`),
    otherOptions: () =>
      rejectOptions(reader, ['capacity', 'refill'], "it belongs to the algorithm 'token-bucket'"),
  });
  return {
    name,
    algorithm: slidingWindow,
    limit,
    refill: undefined,
    windowMs: () => windowMs,
    numbers: (units) => [checkedLimit(name, units, LIMIT_RANGE.max), windowMs, resolution],
  };
}

function resolutionOption(reader: OptionReader): number {
  const resolution = reader.duration('resolution', 1);
  if (resolution <= reader.requiredDuration('window')) return resolution;
  throw reader.error('resolution', 'it must not be longer than the window');
}

function resolveTokenBucket(reader: OptionReader, perRequest: boolean): PolicySettings {
  const refillOf = () => refillOption(reader);
  const capacityOf = () => limitOption(reader, 'capacity', perRequest);
  const { limit, refill, name } = collectSettings({
    refill: refillOf,
    limit: () => capacityOption(reader, perRequest, refillOf().per),
    name: () =>
      nameOption(reader, capacityOf, (units) => {
        const { tokens, per } = refillOf();
        return `token-bucket-${units}-${tokens}-${formatDuration(per)}`;
      }),
    otherOptions: () =>
      rejectOptions(
        reader,
        ['limit', 'window', 'resolution'],
        "it belongs to the algorithm 'sliding-window'",
      ),
  });
  const { tokens, per } = refill;
  return {
    name,
    algorithm: tokenBucket,
    limit,
    refill,
    windowMs: (capacity) => Math.ceil((capacity * per) / tokens),
    numbers: (units) => [checkedLimit(name, units, mostTokens(per)), per, tokens],
  };
}

function refillOption(reader: OptionReader): { readonly tokens: number; readonly per: number } {
  if (!reader.has('refill'))
    throw reader.error('refill', `it is required, for example { tokens: 1, per: '10s' }`);
  const where = `${reader.where}: option \`refill\``;
  return readSettings(where, reader.value('refill'), { known: ['tokens', 'per'] }, (refill) => ({
    tokens: () => refill.requiredInteger('tokens', LIMIT_RANGE),
    per: () => refill.requiredDuration('per'),
  }));
}

function mostTokens(per: number): number {
  return Math.min(LIMIT_RANGE.max, Math.floor(MAX_GRAINS / per));
}

function capacityOption(reader: OptionReader, perRequest: boolean, per: number): PolicySettings['limit'] {
  const capacity = limitOption(reader, 'capacity', perRequest);
  if (typeof capacity !== 'number' || capacity <= mostTokens(per)) return capacity;
  throw reader.error(
    'capacity',
    'times `refill.per` in ms it must not exceed 2^51, where whole numbers are exact',
  );
}

function limitOption(reader: OptionReader, name: string, perRequest: boolean): PolicySettings['limit'] {
  if (perRequest && typeof reader.value(name) === 'function') {
    return reader.callback<(req: Req) => number>(name) ?? 0;
  }
  return reader.requiredInteger(name, LIMIT_RANGE);
}

function nameOption(
  reader: OptionReader,
  limitOf: () => PolicySettings['limit'],
  fallback: (limit: number) => string,
): string {
  return checkedName(reader, reader.string('name') ?? fallback(fixedLimit(reader, limitOf())));
}

export function checkedName(reader: OptionReader, name: string): string {
  if (/^[\w.-]{1,64}$/.test(name)) return name;
  throw reader.error('name', `it may have up to 64 letters, digits, '.', '_' and '-'`);
}

/** Returns a limit that is a number, from which a name can be built. Throws for a function. */
function fixedLimit(reader: OptionReader, limit: PolicySettings['limit']): number {
  if (typeof limit === 'number') return limit;
  throw reader.error(
    'name',
    'it is required where the limit is a function, since no name can be built from a function',
  );
}

/** Checks a limit that may come from a function of the request; 0 allows nothing. */
function checkedLimit(name: string, limit: unknown, max: number): number {
  if (typeof limit === 'number' && Number.isInteger(limit) && limit >= 0 && limit <= max) return limit;
  throw new ConfigError(
    `the limit of '${name}' is ${describe(limit)} for this call; it must be a whole number from 0 to ${max}`,
  );
}

/** Throws for options that are known but must not be given here. `remedy`: the end of the message. */
export function rejectOptions(reader: OptionReader, names: readonly string[], remedy: string): void {
  const reject = (name: string) => () => {
    throw reader.error(name, remedy);
  };
  collectItems(names.filter((name) => reader.has(name)).map(reject));
}
