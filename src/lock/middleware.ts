import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe } from '../base/describe.ts';
import { asError, ConfigError } from '../base/errors.ts';
import type { RequestDeadlines } from '../engine/deadline.ts';
import { asExpress, type Middleware, type Next, type Req, type Res } from '../http/middleware.ts';
import { callError } from '../http/response/complete-response.ts';
import { callInBackground, type MiddlewareOutcome, runMiddleware } from '../http/run-middleware.ts';
import { acquireForRequest } from './acquire-for-request.ts';
import type { LockDeps } from './granted-lock.ts';
import type { KitLockHandle, LockHandle } from './handle.ts';
import { holdForRequest, releaseAfterHandler, releaseWithResponse } from './hold-for-request.ts';
import { type LockOptions, resolveLockOptions } from './options.ts';
import { locksOf, runHolding } from './reentry.ts';

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

export function lockMiddleware(
  options: LockOptions<never>,
  deps: LockDeps & { readonly deadlines: RequestDeadlines },
  handler?: LockHandler<never, never>,
): Middleware {
  const settings = resolveLockOptions(options);
  if (handler !== undefined && typeof handler !== 'function') {
    throw new ConfigError(`kit.lock: the handler is ${describe(handler)}; it must be a function`);
  }
  if (settings.wait > 0) deps.processChannel.subscribe();
  const lockHandler = handler as LockHandler | undefined;
  const failed = (error: unknown) => void deps.reporter.failure('lock', asError(error));
  const acquireDeps = { ...deps, failed };
  const { maxHold, onLost } = settings;

  return function lock(req: IncomingMessage, res: ServerResponse, next: Next): void {
    const unusable = callError('kit.lock', { req, res, next });
    if (unusable !== undefined) {
      next(unusable);
      return;
    }
    let result: KitLockHandle | MiddlewareOutcome = 'answered';

    function goOn(error?: unknown): void {
      // A `handler` option that calls `next` skips the handler that needs the lock.
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
      holdForRequest(req, res, handle, { maxHold, onLost, deadline: deps.deadlines.of(req), failed });

    runMiddleware({ req, res, next: goOn }, failed, async (once) => {
      result = await acquireForRequest({ req, res, next: once }, settings, acquireDeps);
      if (typeof result === 'string') return result;
      asExpress(req).lock = result;
      locksOf(req).push(result);
      if (lockHandler === undefined) releaseWithResponse(res, releaseOf(result));
      return 'continue';
    });
  };
}
