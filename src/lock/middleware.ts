import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe } from '../base/describe.ts';
import { asError, ConfigError, type ErrorCode, RedisKitError } from '../base/errors.ts';
import { identityError, isIdentity } from '../base/identity.ts';
import type { Deadline } from '../engine/deadline.ts';
import { withoutIdentityWatch } from '../http/identity/identity-watch.ts';
import { asExpress, type Middleware, type Next, type Req, type Res } from '../http/middleware.ts';
import { RETRY_AFTER_MS, sendProblem, sendUnavailable } from '../http/problem-details.ts';
import { closeSignalOf } from '../http/response/close-signal.ts';
import { callError } from '../http/response/complete-response.ts';
import { endUnserved, isResponseOver } from '../http/response/unserved.ts';
import {
  callInBackground,
  type MiddlewareCall,
  type MiddlewareOutcome,
  passError,
  runMiddleware,
} from '../http/run-middleware.ts';
import { acquireLocks, type LockRequest, type LockTerms } from './acquire-locks.ts';
import type { LockDeps } from './granted-lock.ts';
import { KitLockHandle, type LockHandle } from './handle.ts';
import { type LockConflict, type LockOptions, type LockSettings, resolveLockOptions } from './options.ts';
import { runHolding } from './reentry.ts';
import { holdUntilHandled, holdUntilResponse } from './request-lock.ts';

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

/** The parts that all requests of one `kit.lock` middleware share. */
interface LockRoute {
  readonly settings: LockSettings;
  readonly terms: LockTerms;
  readonly handler: LockHandler | undefined;
  readonly deps: LockDeps;
  readonly failed: (error: unknown) => void;
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
  deps.failurePolicies.record('lock', settings.onError);
  const { lease: leaseMs, wait: waitMs, isFair } = settings;
  if (waitMs > 0) deps.processChannel.subscribe();
  const route: LockRoute = {
    settings,
    terms: { leaseMs, waitMs, isFair, renew: true, metadata: '' },
    handler: handler as LockHandler | undefined,
    deps,
    failed: (error) => void deps.reporter.failure('lock', asError(error)),
  };

  return function lock(req: IncomingMessage, res: ServerResponse, next: Next): void {
    const call = { req, res, next };
    const unusable = callError('kit.lock', call);
    if (unusable !== undefined) next(unusable);
    else void new LockCall(call, route).run();
  };
}

/** One call of the middleware, which is also the request for its locks. */
class LockCall implements LockRequest {
  readonly ownLocks: KitLockHandle[];
  readonly deadline: Deadline;
  readonly #call: MiddlewareCall;
  readonly #route: LockRoute;

  constructor(call: MiddlewareCall, route: LockRoute) {
    this.ownLocks = locksOf(call.req);
    this.deadline = route.deps.deadlines.of(call.req);
    this.#call = call;
    this.#route = route;
  }

  get terms(): LockTerms {
    return this.#route.terms;
  }

  get signal(): AbortSignal | undefined {
    return this.terms.waitMs > 0 ? closeSignalOf(this.#call.res) : undefined;
  }

  async run(): Promise<void> {
    let result: KitLockHandle | LockConflict | MiddlewareOutcome;
    try {
      result = await this.#acquire();
    } catch (error) {
      passError(this.#call, error);
      return;
    }
    if (result instanceof KitLockHandle) this.#runHandler(result);
    else if (result === 'continue') this.#runHandler(undefined);
    else if (result === 'gone') endUnserved(this.#call.res);
    else if (result !== 'answered') this.#refuse(result);
  }

  async #acquire(): Promise<KitLockHandle | LockConflict | MiddlewareOutcome> {
    const { settings, deps } = this.#route;
    const key = withoutIdentityWatch(() => settings.key(asExpress(this.#call.req)));
    const keys = keysOf(typeof key === 'string' ? key : await key);
    if (keys === null) return 'continue';
    if (this.#isGone()) return 'gone';
    let result: KitLockHandle | LockConflict;
    try {
      result = await acquireLocks(keys, this, deps);
    } catch (error) {
      return this.#isGone() ? 'gone' : this.#handleFailure(error);
    }
    if (this.#isGone()) {
      if (result instanceof KitLockHandle) await result.release(this.deadline);
      return 'gone';
    }
    if (result instanceof KitLockHandle) this.#hold(result);
    return result;
  }

  #isGone(): boolean {
    return isResponseOver(this.#call.res);
  }

  #hold(handle: KitLockHandle): void {
    const { req, res } = this.#call;
    asExpress(req).lock = handle;
    this.ownLocks.push(handle);
    const { handler, settings, failed } = this.#route;
    if (handler !== undefined) return;
    holdUntilResponse({ req, res, handle, deadline: this.deadline }, settings, failed);
  }

  #runHandler(handle: KitLockHandle | undefined): void {
    const { req, res, next } = this.#call;
    const { handler, settings, failed } = this.#route;
    if (handler === undefined) {
      next();
      return;
    }
    const call = () => handler(asExpress(req), res as Res, handle as LockHandle);
    if (handle === undefined) {
      callInBackground(call, next);
      return;
    }
    const request = { req, res, handle, deadline: this.deadline };
    runHolding(handle, () =>
      callInBackground(() => holdUntilHandled(request, settings, { handler: call, failed }), next),
    );
  }

  /** If the option `handler` calls `next`, the handler that needs the lock is skipped. */
  #refuse(conflict: LockConflict): void {
    const { req, res } = this.#call;
    const { settings, failed } = this.#route;
    runMiddleware(this.#call, failed, async (next): Promise<MiddlewareOutcome> => {
      if (settings.handler === undefined) sendConflict(res, conflict);
      else await settings.handler(asExpress(req), res as Res, next, conflict);
      return 'answered';
    });
  }

  #handleFailure(error: unknown): MiddlewareOutcome {
    if (!(error instanceof RedisKitError) || error.code === 'ERR_REDIS_KIT_LOCK_REENTRY') throw error;
    this.#route.failed(error);
    if (this.#route.settings.onError === 'allow' && !NO_OUTAGE.has(error.code)) return 'continue';
    sendUnavailable(this.#call.res, 'lock');
    return 'answered';
  }
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
