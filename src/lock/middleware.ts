import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe } from '../base/describe.ts';
import { asError, ConfigError } from '../base/errors.ts';
import type { RequestDeadlines } from '../engine/deadline.ts';
import { asExpress, type Middleware, type Next, type Req, type Res } from '../http/middleware.ts';
import { callError } from '../http/response/complete-response.ts';
import { callInBackground, type MiddlewareOutcome, runMiddleware } from '../http/run-middleware.ts';
import type { LockDeps } from './asking.ts';
import type { Handle, LockHandle } from './handle.ts';
import { endWithResponse, hold, holdWhileWorking } from './hold.ts';
import { type LockOptions, resolveLockOptions } from './options.ts';
import { acquirer } from './request.ts';
import { LockRoom } from './room.ts';
import { locksOf, underLock } from './scope.ts';

declare global {
  namespace Express {
    interface Request {
      /** The lock that this request holds. */
      lock?: LockHandle;
    }
  }
}

/**
 * What works under a lock until its promise settles. `lock` is undefined where `key` answered null, or Redis was out of
 * reach and `onError` is `'allow'`.
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
  const room = new LockRoom(deps);
  if (settings.wait > 0) deps.turns.listen();
  const make = handler as LockHandler | undefined;
  const failed = (error: unknown) => void deps.reporter.failure('lock', asError(error));
  const acquire = acquirer(settings, { room, deadlines: deps.deadlines, failed });

  return function lock(req: IncomingMessage, res: ServerResponse, next: Next): void {
    const unusable = callError('kit.lock', { req, res, next });
    if (unusable !== undefined) {
      next(unusable);
      return;
    }
    let got: Handle | MiddlewareOutcome = 'answered';

    function goOn(error?: unknown): void {
      // A `handler` that takes a refusal over goes on without what should have worked under the lock.
      if (error !== undefined || got === 'answered' || got === 'gone') next(error);
      else if (got === 'continue') work(undefined);
      else underLock(got, () => work(got as Handle));
    }

    function work(handle: Handle | undefined): void {
      if (make === undefined) {
        next();
        return;
      }
      const call = () => make(asExpress(req), res as Res, handle as LockHandle);
      callInBackground(handle === undefined ? call : () => holdWhileWorking(res, endOf(handle), call), next);
    }

    const endOf = (handle: Handle) =>
      hold(req, res, handle, { settings, failed, deadline: deps.deadlines.of(req) });

    runMiddleware({ req, res, next: goOn }, failed, async (once) => {
      got = await acquire(req, res, once);
      if (typeof got === 'string') return got;
      asExpress(req).lock = got;
      locksOf(req).push(got);
      if (make === undefined) endWithResponse(res, endOf(got));
      return 'continue';
    });
  };
}
