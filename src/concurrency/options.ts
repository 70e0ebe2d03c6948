import type { IncomingMessage } from 'node:http';
import { OptionReader } from '../base/check.ts';
import type { Duration } from '../base/duration.ts';
import { leaseOption, waitOption } from '../base/timed-options.ts';
import type { Next, Req, Res } from '../http/middleware.ts';

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

export function resolveConcurrencyOptions(options: ConcurrencyOptions<never>): ConcurrencySettings {
  const reader = new OptionReader('kit.concurrency', options, OPTIONS);
  const limit = reader.value('limit');
  const wait = waitOption(reader, 0);
  const maxQueue = reader.integer('maxQueue', { min: 1, max: MAX_LIMIT });
  if (maxQueue !== undefined && wait === 0) {
    throw reader.error('maxQueue', 'nobody waits without `wait`; give it, or leave this out');
  }
  return Object.freeze({
    key: reader.callback<NonNullable<ConcurrencyOptions['key']>>('key'),
    limit:
      typeof limit === 'function'
        ? (limit as (req: Req) => number)
        : reader.requiredInteger('limit', { min: 1, max: MAX_LIMIT }),
    name: reader.string('name') ?? (typeof limit === 'number' ? String(limit) : 'varies'),
    lease: leaseOption(reader, '15s'),
    wait,
    maxQueue: maxQueue ?? DEFAULT_QUEUE,
    onError: reader.oneOf('onError', ['memory', 'allow', 'deny'], 'memory'),
    handler: reader.callback<NonNullable<ConcurrencyOptions['handler']>>('handler'),
  });
}
