import type { IncomingMessage } from 'node:http';
import type { Duration } from '../base/duration.ts';
import { AMOUNT_NAMES, LIFETIME_NAMES, renamed } from '../base/foreign-options.ts';
import type { OptionReader } from '../base/option-reader.ts';
import { readSettings } from '../base/settings.ts';
import { leaseOption, waitOption } from '../base/timed-options.ts';
import type { Next, Req, Res } from '../http/middleware.ts';
import { checkNotMounted } from '../http/mount-check.ts';

/** The failure policy: how requests are limited while Redis is unavailable. */
export type ConcurrencyOnError = 'memory' | 'allow' | 'deny';

/** Why a request did not get a slot. */
export interface ConcurrencyRefusal {
  readonly key: string;
  readonly limit: number;
  /** The number of requests that were running. The number exceeds `limit` if the limit was lowered while they ran. */
  readonly running: number;
  /** Whether the request waited until `wait` was over. Otherwise the queue was full, or `wait` is 0. */
  readonly hasWaited: boolean;
}

export interface ConcurrencyOptions<Request extends IncomingMessage = Req> {
  /**
   * Returns the key under which the request is counted, or null to skip the limit. Default: the client's address; for
   * IPv6, the first 56 bits of the address.
   */
  readonly key?: ((req: Request) => string | null | Promise<string | null>) | undefined;
  /** The number of requests that may run at the same time per key, in all processes; from 1 to 1,000,000. */
  readonly limit: number | ((req: Request) => number);
  /**
   * The name of the limit: middleware with equal names and keys shares slots. Default: the limit in digits, or
   * `'varies'` if the limit is a function. Give a name to a limit that must not share slots with another limit of the
   * same number and keys.
   */
  readonly name?: string | undefined;
  /** How long a slot outlives a process that crashed. The slot is renewed while the request runs. Default `'15s'`. */
  readonly lease?: Duration | undefined;
  /** How long a request waits for a slot, first come, first served. Default 0: the request is refused at once. */
  readonly wait?: Duration | undefined;
  /** The number of requests that may wait per key; further requests are refused at once. Default 100. */
  readonly maxQueue?: number | undefined;
  /**
   * When Redis is unavailable: each process counts its own requests (`'memory'`, the default), requests run without a
   * limit (`'allow'`), or the response is 503 (`'deny'`).
   */
  readonly onError?: ConcurrencyOnError | undefined;
  /** Responds to a refused request. Default: 429 as `application/problem+json`. */
  readonly handler?: ((req: Request, res: Res, next: Next, refusal: ConcurrencyRefusal) => void) | undefined;
}

export interface ConcurrencySettings extends Pick<ConcurrencyOptions, 'key' | 'limit' | 'handler'> {
  readonly name: string;
  readonly lease: number;
  readonly wait: number;
  readonly maxQueue: number;
  readonly onError: ConcurrencyOnError;
}

export const MAX_LIMIT = 1_000_000;

const OPTIONS = ['key', 'limit', 'name', 'lease', 'wait', 'maxQueue', 'onError', 'handler'] as const;

/** Options of other packages, for which the error names the option of the kit. */
const ELSEWHERE = {
  ...renamed('limit', ...AMOUNT_NAMES, 'concurrency', 'maxConcurrency'),
  ...renamed('lease', ...LIFETIME_NAMES, 'timeout'),
  ...renamed('wait', 'queueTimeout', 'waitTimeout', 'retryCount', 'retryDelay'),
  ...renamed('maxQueue', 'queueLimit', 'queueSize', 'highWater'),
  ...renamed('key', 'keyGenerator'),
};

export function resolveConcurrencyOptions(options: ConcurrencyOptions<never>): ConcurrencySettings {
  checkNotMounted('kit.concurrency', options);
  return readSettings('kit.concurrency', options, { known: OPTIONS, elsewhere: ELSEWHERE }, (reader) => ({
    key: () => reader.callback<NonNullable<ConcurrencyOptions['key']>>('key'),
    limit: () => limitOption(reader),
    name: () => reader.string('name') ?? defaultName(limitOption(reader)),
    lease: () => leaseOption(reader, '15s'),
    wait: () => waitOption(reader, 0),
    maxQueue: () => maxQueueOption(reader),
    onError: () => reader.oneOf('onError', ['memory', 'allow', 'deny'], 'memory'),
    handler: () => reader.callback<NonNullable<ConcurrencyOptions['handler']>>('handler'),
  }));
}

function limitOption(reader: OptionReader): ConcurrencyOptions['limit'] {
  const limit = reader.value('limit');
  if (typeof limit === 'function') return limit as (req: Req) => number;
  return reader.requiredInteger('limit', { min: 1, max: MAX_LIMIT });
}

function defaultName(limit: ConcurrencyOptions['limit']): string {
  return typeof limit === 'number' ? String(limit) : 'varies';
}

function maxQueueOption(reader: OptionReader): number {
  const maxQueue = reader.integer('maxQueue', { min: 1, max: MAX_LIMIT });
  if (maxQueue !== undefined && waitOption(reader, 0) === 0) {
    throw reader.error('maxQueue', 'no request waits without `wait`; give `wait`, or leave `maxQueue` out');
  }
  return maxQueue ?? 100;
}
