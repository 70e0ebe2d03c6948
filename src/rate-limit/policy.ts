import type { IncomingMessage } from 'node:http';
import { describe, OptionReader } from '../base/check.ts';
import { type Duration, formatDuration } from '../base/duration.ts';
import { ConfigError } from '../base/errors.ts';
import type { Req } from '../http/middleware.ts';
import type { LimitAlgorithm, PolicyNumbers } from '../operations/limit-algorithm.ts';
import { slidingWindow } from '../operations/sliding-window.ts';
import { tokenBucket } from '../operations/token-bucket.ts';

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

/** `perRequest`: the limit may be a function. */
export function resolvePolicy(reader: OptionReader, perRequest: boolean): PolicySettings {
  const algorithm = reader.oneOf('algorithm', ['sliding-window', 'token-bucket', undefined], undefined);
  if (algorithm === undefined)
    throw reader.error('algorithm', `it must be 'sliding-window' or 'token-bucket'`);
  const settings =
    algorithm === 'sliding-window'
      ? resolveSlidingWindow(reader, perRequest)
      : resolveTokenBucket(reader, perRequest);
  if (!/^[\w.-]{1,64}$/.test(settings.name)) {
    throw reader.error('name', `it may have up to 64 letters, digits, '.', '_' and '-'`);
  }
  return Object.freeze(settings);
}

function resolveSlidingWindow(reader: OptionReader, perRequest: boolean): PolicySettings {
  refuse(reader, ['capacity', 'refill'], 'token-bucket');
  const limit = limitOption(reader, 'limit', perRequest);
  const windowMs = reader.requiredDuration('window');
  const resolution = reader.duration('resolution', 1);
  if (resolution > windowMs) throw reader.error('resolution', 'it must not be longer than the window');
  const name = nameOption(reader, limit, () => `sliding-window-${String(limit)}-${formatDuration(windowMs)}`);
  return {
    name,
    algorithm: slidingWindow,
    limit,
    windowMs: () => windowMs,
    numbers: (units) => [checkedLimit(name, units, LIMIT_RANGE.max), windowMs, resolution],
  };
}

function resolveTokenBucket(reader: OptionReader, perRequest: boolean): PolicySettings {
  refuse(reader, ['limit', 'window', 'resolution'], 'sliding-window');
  const limit = limitOption(reader, 'capacity', perRequest);
  if (!reader.has('refill'))
    throw reader.error('refill', `it is required, for example { tokens: 1, per: '10s' }`);
  const refill = new OptionReader(`${reader.where}: option \`refill\``, reader.value('refill'), [
    'tokens',
    'per',
  ]);
  const tokens = refill.requiredInteger('tokens', LIMIT_RANGE);
  const per = refill.requiredDuration('per');
  const most = Math.min(LIMIT_RANGE.max, Math.floor(MAX_GRAINS / per));
  if (typeof limit === 'number' && limit > most) {
    throw reader.error(
      'capacity',
      'times `refill.per` in ms it must stay below 2^51, where whole numbers are exact',
    );
  }
  const name = nameOption(
    reader,
    limit,
    () => `token-bucket-${String(limit)}-${tokens}-${formatDuration(per)}`,
  );
  return {
    name,
    algorithm: tokenBucket,
    limit,
    windowMs: (capacity) => Math.ceil((capacity * per) / tokens),
    numbers: (units) => [checkedLimit(name, units, most), per, tokens],
  };
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
  limit: number | ((req: Req) => number),
  fallback: () => string,
): string {
  const name = reader.string('name');
  if (name !== undefined) return name;
  if (typeof limit === 'number') return fallback();
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

function refuse(reader: OptionReader, names: readonly string[], other: string): void {
  const wrong = names.find((name) => reader.has(name));
  if (wrong !== undefined) throw reader.error(wrong, `it belongs to the algorithm '${other}'`);
}
