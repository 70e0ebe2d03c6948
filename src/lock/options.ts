import type { IncomingMessage } from 'node:http';
import type { Duration } from '../base/duration.ts';
import { LIFETIME_NAMES, renamed } from '../base/foreign-options.ts';
import type { OptionReader } from '../base/option-reader.ts';
import { readSettings } from '../base/settings.ts';
import { leaseOption, timerOption, waitOption } from '../base/timed-options.ts';
import type { Next, Req, Res } from '../http/middleware.ts';
import { checkNotMounted } from '../http/mount-check.ts';

/** The failure policy while Redis is unavailable: refuse the request, or run it without the lock. */
export type LockOnError = 'deny' | 'allow';

/** Why a request did not get its lock. */
export interface LockConflict {
  /** The requested key that another request holds. */
  readonly key: string;
  /** Whether the request waited for the lock. The default response is 503 after a wait, and 409 otherwise. */
  readonly hasWaited: boolean;
  /** Milliseconds until the holder's lease ends, unless the holder renews it; null when unknown. */
  readonly expiresInMs: number | null;
}

export interface LockOptions<Request extends IncomingMessage = Req> {
  /**
   * Returns the key that the request locks, or null to take no lock. Requests with equal keys run one at a time, over
   * all processes. All keys of an array are locked, or none of them.
   */
  readonly key: (
    req: Request,
  ) => string | readonly string[] | null | Promise<string | readonly string[] | null>;
  /** How long the lock outlives a process that crashed. The lock is renewed while the request runs. Default `'15s'`. */
  readonly lease?: Duration | undefined;
  /** How long a request waits for the lock before the response is 503. Default 0: the response is 409 at once. */
  readonly wait?: Duration | undefined;
  /**
   * First come, first served; default true. With `false`, a request that arrives when the lock has just become free
   * overtakes the waiters, which saves the time of a handoff. A waiter that is overtaken joins the queue again at its
   * end. Use the same value everywhere for one key.
   */
  readonly fair?: boolean | undefined;
  /** The longest time for which a request may hold the lock; afterwards the lock is lost. Default `'5m'`. */
  readonly maxHold?: Duration | undefined;
  /** When Redis is unavailable: respond with 503 (`'deny'`, the default), or run without the lock (`'allow'`). */
  readonly onError?: LockOnError | undefined;
  /** Responds to a refused request. Default: 409, or 503 after a wait, as `application/problem+json`. */
  readonly handler?: ((req: Request, res: Res, next: Next, conflict: LockConflict) => void) | undefined;
  /** Called once if the lock is lost while the request still runs. */
  readonly onLost?: ((req: Request, res: Res, error: Error) => void) | undefined;
}

export interface LockSettings extends Pick<LockOptions, 'key' | 'handler' | 'onLost'> {
  readonly lease: number;
  readonly wait: number;
  readonly isFair: boolean;
  readonly maxHold: number;
  readonly onError: LockOnError;
}

export const DEFAULT_LEASE = '15s';

const NAMES = ['key', 'lease', 'wait', 'fair', 'maxHold', 'onError', 'handler', 'onLost'] as const;

const MORE_HOLDERS = 'one request holds a lock; for more use kit.concurrency';

/** Options of other lock packages, for which the error names the option of the kit. */
const ELSEWHERE = {
  ...renamed('lease', ...LIFETIME_NAMES, 'timeout'),
  ...renamed('wait', 'retryCount', 'retryDelay', 'retryJitter', 'acquireTimeout'),
  ...renamed('key', 'resource', 'resources', 'keys', 'keyGenerator'),
  max: MORE_HOLDERS,
  points: MORE_HOLDERS,
};

export function resolveLockOptions(options: LockOptions<never>): LockSettings {
  checkNotMounted('kit.lock', options);
  return readSettings('kit.lock', options, { known: NAMES, elsewhere: ELSEWHERE }, (reader) => ({
    key: () => keyOption(reader),
    lease: () => leaseOption(reader, DEFAULT_LEASE),
    wait: () => waitOption(reader, 0),
    isFair: () => reader.boolean('fair', true),
    maxHold: () => timerOption(reader, 'maxHold', '5m'),
    onError: () => reader.oneOf('onError', ['deny', 'allow'], 'deny'),
    handler: () => reader.callback<NonNullable<LockOptions['handler']>>('handler'),
    onLost: () => reader.callback<NonNullable<LockOptions['onLost']>>('onLost'),
  }));
}

function keyOption(reader: OptionReader): LockOptions['key'] {
  const key = reader.callback<LockOptions['key']>('key');
  if (key !== undefined) return key;
  throw reader.error('key', `it is required, for example (req) => \`order:\${req.params.id}\``);
}
