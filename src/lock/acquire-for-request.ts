import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe } from '../base/describe.ts';
import { type ErrorCode, RedisKitError } from '../base/errors.ts';
import type { RequestDeadlines } from '../engine/deadline.ts';
import { withoutIdentityWatch } from '../http/identity/identity-watch.ts';
import { asExpress, type Next, type Res } from '../http/middleware.ts';
import { RETRY_AFTER_MS, sendProblem, sendUnavailable } from '../http/problem-details.ts';
import { closeSignalOf } from '../http/response/close-signal.ts';
import type { MiddlewareOutcome } from '../http/run-middleware.ts';
import { acquireLocks } from './acquire-locks.ts';
import type { LockDeps } from './granted-lock.ts';
import { KitLockHandle } from './handle.ts';
import type { LockConflict, LockSettings } from './options.ts';
import { locksOf } from './reentry.ts';

/** Errors after which another process may hold the lock: `onError: 'allow'` does not cover them. */
const NO_OUTAGE: ReadonlySet<ErrorCode> = new Set([
  'ERR_REDIS_KIT_NEWER_FORMAT',
  'ERR_REDIS_KIT_LOCK_LOST',
  'ERR_REDIS_KIT_CLOSED',
]);

interface AcquireDeps extends LockDeps {
  readonly deadlines: RequestDeadlines;
  failed(error: unknown): void;
}

/** Acquires the locks of a request. Resolves to an outcome where the request goes on without a lock or is answered. */
export async function acquireForRequest(
  { req, res, next }: { readonly req: IncomingMessage; readonly res: ServerResponse; readonly next: Next },
  settings: LockSettings,
  deps: AcquireDeps,
): Promise<KitLockHandle | MiddlewareOutcome> {
  const keys = keysOf(await withoutIdentityWatch(() => settings.key(asExpress(req))));
  if (keys === null) return 'continue';
  const deadline = deps.deadlines.of(req);
  const { lease: leaseMs, wait: waitMs, isFair } = settings;
  const signal = waitMs > 0 ? closeSignalOf(res) : undefined;
  const options = { leaseMs, waitMs, isFair, renew: true, metadata: '' };
  let result: KitLockHandle | LockConflict;
  try {
    result = await acquireLocks(keys, { ...options, signal, deadline, ownLocks: locksOf(req) }, deps);
  } catch (error) {
    return signal?.aborted === true ? 'gone' : handleFailure(error, res, settings, deps);
  }
  if (result instanceof KitLockHandle) {
    if (signal?.aborted !== true) return result;
    // The client has left, so the handler does not start.
    await result.release(deadline);
    return 'gone';
  }
  if (settings.handler === undefined) sendConflict(res, result);
  else await settings.handler(asExpress(req), res as Res, next, result);
  return 'answered';
}

function handleFailure(
  error: unknown,
  res: ServerResponse,
  { onError }: LockSettings,
  { failed }: AcquireDeps,
): MiddlewareOutcome {
  if (!(error instanceof RedisKitError) || error.code === 'ERR_REDIS_KIT_LOCK_REENTRY') throw error;
  failed(error);
  if (onError === 'allow' && !NO_OUTAGE.has(error.code)) return 'continue';
  sendUnavailable(res, 'lock');
  return 'answered';
}

function keysOf(key: unknown): readonly string[] | null {
  if (key === null) return null;
  const keys: readonly unknown[] = Array.isArray(key) ? key : [key];
  if (keys.length > 0 && keys.every(isKey)) return keys;
  const wrong = Array.isArray(key) && key.length > 0 ? key.find((each) => !isKey(each)) : key;
  throw new RedisKitError(
    'ERR_REDIS_KIT_NO_IDENTITY',
    `kit.lock: option \`key\` returned ${describe(wrong)}; it must return a string that is not empty, several of them, or null to take no lock`,
  );
}

function isKey(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

function sendConflict(res: ServerResponse, { hasWaited }: LockConflict): void {
  sendProblem(res, {
    ...(hasWaited ? { status: 503, title: 'Service Unavailable' } : { status: 409, title: 'Conflict' }),
    detail: 'Another request is working on the same resource.',
    retryAfterMs: RETRY_AFTER_MS,
  });
}
