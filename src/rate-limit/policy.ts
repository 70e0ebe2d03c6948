import { OptionReader } from '../base/check.ts';
import { type Duration, formatDuration } from '../base/duration.ts';
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
  readonly limit: number;
  /** How long it takes until a fully used quota is whole again. */
  readonly windowMs: number;
  numbers(limit: number): PolicyNumbers;
}

const LIMIT_RANGE = { min: 1, max: 1_000_000_000 } as const;

export function resolvePolicy(reader: OptionReader): PolicySettings {
  const algorithm = reader.value('algorithm');
  const policy =
    algorithm === 'sliding-window'
      ? resolveSlidingWindow(reader)
      : algorithm === 'token-bucket'
        ? resolveTokenBucket(reader)
        : undefined;
  if (policy === undefined) {
    throw reader.error('algorithm', `it must be 'sliding-window' or 'token-bucket'`);
  }
  if (!/^[\w.-]{1,64}$/.test(policy.name)) {
    throw reader.error('name', `it may have up to 64 letters, digits, '.', '_' and '-'`);
  }
  return Object.freeze(policy);
}

function resolveSlidingWindow(reader: OptionReader): PolicySettings {
  refuse(reader, ['capacity', 'refill'], 'token-bucket');
  const limit = reader.requiredInteger('limit', LIMIT_RANGE);
  const windowMs = reader.requiredDuration('window');
  const resolution = reader.duration('resolution', 1);
  if (resolution > windowMs) throw reader.error('resolution', 'it must not be longer than the window');
  return {
    name: reader.string('name') ?? `sliding-window-${limit}-${formatDuration(windowMs)}`,
    algorithm: slidingWindow,
    limit,
    windowMs,
    numbers: (units) => [units, windowMs, resolution],
  };
}

function resolveTokenBucket(reader: OptionReader): PolicySettings {
  refuse(reader, ['limit', 'window', 'resolution'], 'sliding-window');
  const capacity = reader.requiredInteger('capacity', LIMIT_RANGE);
  if (!reader.has('refill'))
    throw reader.error('refill', `it is required, for example { tokens: 1, per: '10s' }`);
  const refill = new OptionReader('the option `refill`', reader.value('refill'), ['tokens', 'per']);
  const tokens = refill.requiredInteger('tokens', LIMIT_RANGE);
  const per = refill.requiredDuration('per');
  if (capacity * per > 2 ** 51) {
    throw reader.error(
      'capacity',
      'times `refill.per` in ms it must stay below 2^51, where whole numbers are exact',
    );
  }
  return {
    name: reader.string('name') ?? `token-bucket-${capacity}-${tokens}-${formatDuration(per)}`,
    algorithm: tokenBucket,
    limit: capacity,
    windowMs: Math.ceil((capacity * per) / tokens),
    numbers: (units) => [units, per, tokens],
  };
}

function refuse(reader: OptionReader, names: readonly string[], other: string): void {
  const wrong = names.find((name) => reader.has(name));
  if (wrong !== undefined) throw reader.error(wrong, `it belongs to the algorithm '${other}'`);
}
