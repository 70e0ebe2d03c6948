import type { IncomingMessage } from 'node:http';
import type { Duration } from '../base/duration.ts';
import { AMOUNT_NAMES, LIFETIME_NAMES, renamed } from '../base/foreign-options.ts';
import type { OptionReader } from '../base/option-reader.ts';
import { readSettings } from '../base/settings.ts';
import { leaseOption, waitOption } from '../base/timed-options.ts';
import type { Next, Req, Res } from '../http/middleware.ts';
import { checkNotMounted } from '../http/mount-check.ts';

/** What happens when Redis cannot be asked. */
export type ConcurrencyOnError = 'memory' | 'allow' | 'deny';

/** Why a request did not get a slot. */
export interface ConcurrencyRefusal {
  readonly key: string;
  readonly limit: number;
  /** How many were running; above the limit where it was lowered meanwhile. */
  readonly running: number;
  /** Whether it waited, in vain; else the line was full, or nobody may wait. */
  readonly hasWaited: boolean;
}

export interface ConcurrencyOptions<Request extends IncomingMessage = Req> {
  /**
   * Whose requests are counted together; null counts none. Default: the client's address, of IPv6 the first 56 bits.
   */
  readonly key?: ((req: Request) => string | null | Promise<string | null>) | undefined;
  /** How many requests may run at once for each key, in all processes; from 1 to 1,000,000. */
  readonly limit: number | ((req: Request) => number);
  /**
   * What is limited: middleware of one name counts together, and apart from others. Default: the limit as digits, or
   * `'varies'` where it is a function; so give a name to what has the same limit and the same keys as something else.
   */
  readonly name?: string | undefined;
  /** How long a slot outlives a process that crashed; it is renewed while the request runs. Default `'15s'`. */
  readonly lease?: Duration | undefined;
  /** How long a request waits for a slot, first come, first served; default 0: refused at once. */
  readonly wait?: Duration | undefined;
  /** How many may wait for each key; who comes then is refused at once. Default 100. */
  readonly maxQueue?: number | undefined;
  /** Redis out of reach: each process counts for itself (`'memory'`, the default), lets pass, or answers 503. */
  readonly onError?: ConcurrencyOnError | undefined;
  /** Takes over a refusal; default: 429 as problem+json. */
  readonly handler?: ((req: Request, res: Res, next: Next, refusal: ConcurrencyRefusal) => void) | undefined;
}

export interface ConcurrencySettings {
  readonly key: ConcurrencyOptions['key'];
  readonly limit: ConcurrencyOptions['limit'];
  readonly name: string;
  readonly lease: number;
  readonly wait: number;
  readonly maxQueue: number;
  readonly onError: ConcurrencyOnError;
  readonly handler: ConcurrencyOptions['handler'];
}

export const MAX_LIMIT = 1_000_000;

const DEFAULT_QUEUE = 100;

const OPTIONS = ['key', 'limit', 'name', 'lease', 'wait', 'maxQueue', 'onError', 'handler'] as const;

/** What users of other packages look for. */
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
    name: () => reader.string('name') ?? nameOf(limitOption(reader)),
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

function nameOf(limit: ConcurrencyOptions['limit']): string {
  return typeof limit === 'number' ? String(limit) : 'varies';
}

function maxQueueOption(reader: OptionReader): number {
  const maxQueue = reader.integer('maxQueue', { min: 1, max: MAX_LIMIT });
  if (maxQueue !== undefined && waitOption(reader, 0) === 0) {
    throw reader.error('maxQueue', 'nobody waits without `wait`; give it, or leave this out');
  }
  return maxQueue ?? DEFAULT_QUEUE;
}
