import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe } from '../base/describe.ts';
import { asError, ConfigError, type ErrorCode, LockLostError, RedisKitError } from '../base/errors.ts';
import { identityError, isIdentity } from '../base/identity.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline } from '../engine/deadline.ts';
import { withoutIdentityWatch } from '../http/identity/identity-watch.ts';
import { asExpress, type Middleware, type Next, type Req, type Res } from '../http/middleware.ts';
import { RETRY_AFTER_MS, sendProblem, sendUnavailable } from '../http/problem-details.ts';
import { closeSignalOf } from '../http/response/close-signal.ts';
import { callError } from '../http/response/complete-response.ts';
import { addResponseHook, type ResponseHook } from '../http/response/guarded-response.ts';
import { whenUnserved } from '../http/response/unserved.ts';
import { callInBackground, type MiddlewareOutcome, runMiddleware } from '../http/run-middleware.ts';
import { acquireLocks } from './acquire-locks.ts';
import type { LockDeps } from './granted-lock.ts';
import { KitLockHandle, type LockHandle, runHolding } from './handle.ts';
import { type LockConflict, type LockOptions, type LockSettings, resolveLockOptions } from './options.ts';

declare global {
  namespace Express {
    interface Request {
      /** The lock that this request holds. */
      lock?: LockHandle;
    }
  }
}

/**
 * A handler that holds the lock until its promise settles. `lock` is undefined when `key` returned null, or when Redis is
 * unavailable and `onError` is `'allow'`.
 */
export type LockHandler<Request extends IncomingMessage = Req, Response extends ServerResponse = Res> = (
  req: Request,
  res: Response,
  lock: LockHandle,
) => unknown;

/** Errors that are no outage of Redis: despite `onError: 'allow'`, the request does not run without its lock. */
const NO_OUTAGE: ReadonlySet<ErrorCode> = new Set([
  'ERR_REDIS_KIT_NEWER_FORMAT',
  'ERR_REDIS_KIT_LOCK_LOST',
  'ERR_REDIS_KIT_CLOSED',
]);

const LOCKS: unique symbol = Symbol('the locks that the request holds');

/** The handles of all locks that a request has acquired, by which a reentry is detected. */
function locksOf(req: IncomingMessage & { [LOCKS]?: KitLockHandle[] }): KitLockHandle[] {
  req[LOCKS] ??= [];
  return req[LOCKS];
}

export function lockMiddleware(
  options: LockOptions<never>,
  deps: LockDeps,
  handler?: LockHandler<never, never>,
): Middleware {
  const settings = resolveLockOptions(options);
  if (handler !== undefined && typeof handler !== 'function') {
    throw new ConfigError(`kit.lock: the handler is ${describe(handler)}; it must be a function`);
  }
  if (settings.wait > 0) deps.processChannel.subscribe();
  const lockHandler = handler as LockHandler | undefined;
  const failed = (error: unknown) => void deps.reporter.failure('lock', asError(error));

  return function lock(req: IncomingMessage, res: ServerResponse, next: Next): void {
    const unusable = callError('kit.lock', { req, res, next });
    if (unusable !== undefined) {
      next(unusable);
      return;
    }
    let result: KitLockHandle | MiddlewareOutcome = 'answered';

    function goOn(error?: unknown): void {
      // If the option `handler` calls `next` for a refused request, the handler that needs the lock is skipped.
      if (error !== undefined || result === 'answered' || result === 'gone') next(error);
      else if (result === 'continue') run(undefined);
      else {
        const handle = result;
        runHolding(handle, () => run(handle));
      }
    }

    function run(handle: KitLockHandle | undefined): void {
      if (lockHandler === undefined) {
        next();
        return;
      }
      const call = () => lockHandler(asExpress(req), res as Res, handle as LockHandle);
      const callHolding = () =>
        handle === undefined ? call() : releaseAfterHandler(res, releaseOf(handle), call);
      callInBackground(callHolding, next);
    }

    const releaseOf = (handle: KitLockHandle) =>
      holdForRequest({ req, res, handle }, settings, deps.deadlines.of(req), failed);

    runMiddleware({ req, res, next: goOn }, failed, async (once) => {
      result = await acquireForRequest({ req, res, next: once }, settings, deps);
      if (typeof result === 'string') return result;
      asExpress(req).lock = result;
      locksOf(req).push(result);
      if (lockHandler === undefined) releaseWithResponse(res, releaseOf(result));
      return 'continue';
    });
  };
}

/** Acquires the locks of a request. Resolves to the outcome of the middleware if the request gets no lock. */
async function acquireForRequest(
  { req, res, next }: { readonly req: IncomingMessage; readonly res: ServerResponse; readonly next: Next },
  settings: LockSettings,
  deps: LockDeps,
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
    return signal?.aborted === true ? 'gone' : handleFailure(error, res, settings, deps.reporter);
  }
  if (result instanceof KitLockHandle) {
    if (signal?.aborted !== true) return result;
    // The client disconnected during the wait, so the handler does not run.
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
  reporter: Reporter,
): MiddlewareOutcome {
  if (!(error instanceof RedisKitError) || error.code === 'ERR_REDIS_KIT_LOCK_REENTRY') throw error;
  reporter.failure('lock', error);
  if (onError === 'allow' && !NO_OUTAGE.has(error.code)) return 'continue';
  sendUnavailable(res, 'lock');
  return 'answered';
}

function keysOf(key: unknown): readonly string[] | null {
  if (key === null) return null;
  const keys: readonly unknown[] = Array.isArray(key) ? key : [key];
  if (keys.length > 0 && keys.every(isIdentity)) return keys;
  const wrong = keys.length > 0 ? keys.find((each) => !isIdentity(each)) : key;
  const expected = 'a string that is not empty, several of them, or null to take no lock';
  throw identityError('kit.lock: option `key`', wrong, expected);
}

function sendConflict(res: ServerResponse, { hasWaited }: LockConflict): void {
  sendProblem(res, {
    ...(hasWaited ? { status: 503, title: 'Service Unavailable' } : { status: 409, title: 'Conflict' }),
    detail: 'Another request is working on the same resource.',
    retryAfterMs: RETRY_AFTER_MS,
  });
}

interface LockedCall {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly handle: KitLockHandle;
}

/** Limits to `maxHold` how long a request holds its lock. Returns a function that releases the lock. */
function holdForRequest(
  { req, res, handle }: LockedCall,
  { maxHold, onLost }: LockSettings,
  deadline: Deadline,
  failed: (error: unknown) => void,
): () => Promise<void> {
  const timer = setTimeout(() => {
    handle.lose(
      new LockLostError(`the request held the lock ${handle.quotedKeys} for more than ${maxHold} ms`),
    );
    void handle.release();
  }, maxHold).unref();

  if (onLost !== undefined) {
    // An error that a listener of an AbortSignal throws would end the process.
    const callOnLost = () =>
      callInBackground(() => onLost(asExpress(req), res as Res, handle.signal.reason as Error), failed);
    handle.signal.addEventListener('abort', callOnLost, { once: true });
  }

  return () => {
    clearTimeout(timer);
    return handle.release(deadline).then(() => undefined);
  };
}

/** Releases the lock when the handler ends the response, even if the client has disconnected. */
function releaseWithResponse(res: ServerResponse, release: () => Promise<void>): void {
  addResponseHook(res, hookOf(release));
  whenUnserved(res, () => void release());
}

/**
 * Calls the handler, and releases the lock when the handler's promise settles or, without a promise, when the response
 * ends. A response that the handler ends in its last statement is sent after the release, so that the client's next
 * request is not refused because of this lock; a response that ends earlier does not wait for the handler. Rejects with
 * the handler's error.
 */
async function releaseAfterHandler(
  res: ServerResponse,
  release: () => Promise<void>,
  handler: () => unknown,
): Promise<void> {
  let returnsPromise = false;
  let released: Promise<void> | undefined;
  const hook = hookOf(async () => {
    // If `end()` is the last statement of the handler, the handler's promise settles within this turn of the event
    // loop.
    await new Promise((resolve) => setImmediate(resolve));
    if (!returnsPromise) released ??= release();
    await released;
  });
  addResponseHook(res, hook);
  // If the client disconnects while later middleware waits, `next` is never called, and a handler that awaits that call
  // never settles.
  whenUnserved(res, () => {
    released ??= release();
  });
  try {
    const result = handler();
    returnsPromise = typeof result === 'object' && result !== null && 'then' in result;
    await result;
  } catch (error) {
    returnsPromise = true;
    throw error;
  } finally {
    if (returnsPromise) {
      released ??= release();
      await released;
    }
  }
}

function hookOf(release: () => Promise<void>): ResponseHook {
  return { phase: 'lock', withholdsLastBytes: true, outlastsRefusal: true, beforeEnd: release };
}
