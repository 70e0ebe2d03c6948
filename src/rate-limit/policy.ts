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

/** At most `limit` units in every window of this length: exact, at any moment, on the server's clock. */
export interface SlidingWindowPolicy {
  readonly algorithm: 'sliding-window';
  /** Units per window, 1 to 1,000,000,000. */
  readonly limit: number;
  readonly window: Duration;
  /**
   * Times are rounded up to a multiple of this, which bounds the memory of a key to window / resolution entries
   * of 8 bytes. Never admits more; a unit may come back this much later. Default `1` (ms).
   */
  readonly resolution?: Duration | undefined;
  /** Default: built from the algorithm and its numbers. Stands in the key and in the RateLimit fields. */
  readonly name?: string | undefined;
}

/** A bucket of `capacity` tokens that refills continuously: bursts up to the capacity, then the steady rate. */
export interface TokenBucketPolicy {
  readonly algorithm: 'token-bucket';
  /** Tokens that fit, 1 to 1,000,000,000; capacity times `refill.per` in ms stays below 2^51. */
  readonly capacity: number;
  /** How many tokens come back per how long. */
  readonly refill: { readonly tokens: number; readonly per: Duration };
  /** Default: built from the algorithm and its numbers. Stands in the key and in the RateLimit fields. */
  readonly name?: string | undefined;
}

export type Policy = SlidingWindowPolicy | TokenBucketPolicy;

/** Of a middleware: the limit or capacity may depend on the request; then `name` is required. */
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
  /** Units, or how to ask the request for them. */
  readonly limit: number | ((req: Req) => number);
  /** How long it takes until a fully used quota is whole again. */
  windowMs(limit: number): number;
  /** Throws a ConfigError where the limit is none, since a request may have given it. */
  numbers(limit: number): PolicyNumbers;
}

const LIMIT_RANGE = { min: 1, max: 1_000_000_000 } as const;

/** Beyond this, capacity times interval is no longer exact in the sums of the token bucket. */
const MAX_GRAINS = 2 ** 51;

/** What users of express-rate-limit and rate-limiter-flexible look for in a policy. */
export const POLICY_ELSEWHERE: Readonly<Record<string, string>> = {
  ...renamed('window', ...LIFETIME_NAMES),
  ...renamed('limit', ...AMOUNT_NAMES),
  ...renamed('name', 'identifier'),
  interval: "it is `window` here, or `per` in `refill` of the algorithm 'token-bucket'",
  tokensPerInterval: "it is `tokens` in `refill` of the algorithm 'token-bucket'",
  keyPrefix: '`name` keeps two limiters apart; createRedisKit({ prefix }) begins every key',
  prefix: '`name` keeps two limiters apart; createRedisKit({ prefix }) begins every key',
  blockDuration: "a refused client waits until units come back; see `onDenied: 'count'` of kit.rateLimit",
  key: 'the id is given with each call: limiter.consume(id)',
};

/** A policy that stands alone. */
export function readPolicy(where: string, options: unknown): PolicySettings {
  const names = { known: POLICY_OPTION_NAMES, elsewhere: POLICY_ELSEWHERE };
  return readSettings(where, options, names, (reader) => ({ policy: () => resolvePolicy(reader, false) }))
    .policy;
}

/** `perRequest`: the limit may be a function. */
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
    otherOptions: () => refuse(reader, ['capacity', 'refill'], "it belongs to the algorithm 'token-bucket'"),
  });
  return {
    name,
    algorithm: slidingWindow,
    limit,
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
    limit: () => checkedCapacity(reader, capacityOf(), refillOf().per),
    name: () =>
      nameOption(reader, capacityOf, (units) => {
        const { tokens, per } = refillOf();
        return `token-bucket-${units}-${tokens}-${formatDuration(per)}`;
      }),
    otherOptions: () =>
      refuse(reader, ['limit', 'window', 'resolution'], "it belongs to the algorithm 'sliding-window'"),
  });
  const { tokens, per } = refill;
  return {
    name,
    algorithm: tokenBucket,
    limit,
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

function checkedCapacity<Limit>(reader: OptionReader, capacity: Limit, per: number): Limit {
  if (typeof capacity !== 'number' || capacity <= mostTokens(per)) return capacity;
  throw reader.error(
    'capacity',
    'times `refill.per` in ms it must stay below 2^51, where whole numbers are exact',
  );
}

function limitOption(
  reader: OptionReader,
  name: string,
  perRequest: boolean,
): number | ((req: Req) => number) {
  if (perRequest && typeof reader.value(name) === 'function') {
    return reader.callback<(req: Req) => number>(name) ?? 0;
  }
  return reader.requiredInteger(name, LIMIT_RANGE);
}

function nameOption(
  reader: OptionReader,
  limitOf: () => number | ((req: Req) => number),
  fallback: (limit: number) => string,
): string {
  const name = reader.string('name') ?? fallback(fixedLimit(reader, limitOf()));
  if (/^[\w.-]{1,64}$/.test(name)) return name;
  throw reader.error('name', `it may have up to 64 letters, digits, '.', '_' and '-'`);
}

/** The limit that a name can be built from. */
function fixedLimit(reader: OptionReader, limit: number | ((req: Req) => number)): number {
  if (typeof limit === 'number') return limit;
  throw reader.error(
    'name',
    'it is required where the limit is a function, since the key cannot be built from it',
  );
}

/** A limit that a request gave; 0 lets nothing through. */
function checkedLimit(name: string, limit: unknown, max: number): number {
  if (typeof limit === 'number' && Number.isInteger(limit) && limit >= 0 && limit <= max) return limit;
  throw new ConfigError(
    `the limit of '${name}' is ${describe(limit)} for this call; it must be a whole number from 0 to ${max}`,
  );
}

/** Refuses options that are known and have no place in this call. */
export function refuse(reader: OptionReader, names: readonly string[], remedy: string): void {
  const wrong = names.filter((name) => reader.has(name));
  collectItems(
    wrong.map((name) => () => {
      throw reader.error(name, remedy);
    }),
  );
}
