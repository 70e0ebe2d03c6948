import type { IncomingMessage } from 'node:http';
import type { Duration } from '../base/duration.ts';
import { LIFETIME_NAMES, renamed } from '../base/foreign-options.ts';
import type { OptionReader } from '../base/option-reader.ts';
import { readSettings } from '../base/settings.ts';
import { leaseOption as leaseOf, timerOption, waitOption } from '../base/timed-options.ts';
import type { Next, Req, Res } from '../http/middleware.ts';
import { checkNotMounted } from '../http/mount-check.ts';

/** What happens when Redis cannot be asked for the lock. */
export type LockOnError = 'deny' | 'allow';

/** Why a request did not get its lock. */
export interface LockConflict {
  /** The key that somebody else holds, of those that were asked for. */
  readonly key: string;
  /** Whether it was waited for, in vain; it is answered with 503 then, else with 409. */
  readonly hasWaited: boolean;
  /** Of the holder's lease, which it may renew; null when nobody can tell. */
  readonly expiresInMs: number | null;
}

export interface LockOptions<Request extends IncomingMessage = Req> {
  /**
   * What the request locks; null takes no lock. Requests with equal keys run one at a time, in all processes. Of several
   * keys all are locked or none.
   */
  readonly key: (
    req: Request,
  ) => string | readonly string[] | null | Promise<string | readonly string[] | null>;
  /** How long the lock outlives a process that crashed; it is renewed while the request runs. Default `'15s'`. */
  readonly lease?: Duration | undefined;
  /** How long a request waits for its turn before it is refused with 503; default 0: refused with 409 at once. */
  readonly wait?: Duration | undefined;
  /**
   * First come, first served; default true. `false` lets a request that comes just when the lock is free overtake those
   * that wait, which saves the time that handing over takes; who waits keeps no place, so use one or the other for a key.
   */
  readonly fair?: boolean | undefined;
  /** A handler that has not answered by then loses the lock; default `'5m'`. */
  readonly maxHold?: Duration | undefined;
  /** Redis out of reach: 503 (`'deny'`, the default), or run without the lock (`'allow'`). */
  readonly onError?: LockOnError | undefined;
  /** Takes over a refusal; default: 409, or 503 after a wait, as problem+json. */
  readonly handler?: ((req: Request, res: Res, next: Next, conflict: LockConflict) => void) | undefined;
  /** Called once when the lock was lost while the request still ran. */
  readonly onLost?: ((req: Request, res: Res, error: Error) => void) | undefined;
}

export interface LockSettings {
  readonly key: LockOptions['key'];
  readonly lease: number;
  readonly wait: number;
  readonly isFair: boolean;
  readonly maxHold: number;
  readonly onError: LockOnError;
  readonly handler: LockOptions['handler'];
  readonly onLost: LockOptions['onLost'];
}

const DEFAULT_LEASE = '15s';

const NAMES = ['key', 'lease', 'wait', 'fair', 'maxHold', 'onError', 'handler', 'onLost'] as const;

/** What users of other lock packages look for. */
const ELSEWHERE = {
  ...renamed('lease', ...LIFETIME_NAMES, 'timeout'),
  ...renamed('wait', 'retryCount', 'retryDelay', 'retryJitter', 'acquireTimeout'),
  ...renamed('key', 'resource', 'resources', 'keys', 'keyGenerator'),
  max: 'one request holds a lock; for more use kit.concurrency',
  points: 'one request holds a lock; for more use kit.concurrency',
};

export function resolveLockOptions(options: LockOptions<never>): LockSettings {
  checkNotMounted('kit.lock', options);
  return readSettings('kit.lock', options, { known: NAMES, elsewhere: ELSEWHERE }, (reader) => ({
    key: () => keyOption(reader),
    lease: () => leaseOption(reader),
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

export function leaseOption(reader: OptionReader): number {
  return leaseOf(reader, DEFAULT_LEASE);
}
