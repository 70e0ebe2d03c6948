import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe } from '../base/check.ts';
import { asError, RedisKitError } from '../base/errors.ts';
import type { BudgetOf } from '../engine/budget.ts';
import { asExpress, type Middleware, type Next, type Res } from '../http/middleware.ts';
import { type Outcome, settle } from '../http/outcome.ts';
import { sendProblem, sendUnavailable } from '../http/problem.ts';
import type { LockHandle } from './handle.ts';
import { holdWhileRunning } from './hold.ts';
import { type Attempt, type LockDeps, LockRoom } from './locks.ts';
import { type LockOptions, resolveLockOptions } from './options.ts';

declare global {
  namespace Express {
    interface Request {
      /** The lock that this request holds. */
      lock?: LockHandle;
    }
  }
}

/** When the holder will be done nobody knows; most requests take less than this. */
const RETRY_AFTER_MS = 1_000;

export function lockMiddleware(
  options: LockOptions<never>,
  deps: LockDeps & { readonly budgetOf: BudgetOf },
): Middleware {
  const settings = resolveLockOptions(options);
  const locks = new LockRoom(deps);

  const failed = (error: unknown) => void deps.reporter.failure('lock', asError(error));

  async function acquire(req: IncomingMessage, res: ServerResponse, next: Next): Promise<Outcome> {
    const request = asExpress(req);
    const id: unknown = await settings.key(request);
    if (id === null) return 'continue';
    if (typeof id !== 'string' || id === '') {
      throw new RedisKitError(
        'ERR_REDIS_KIT_NO_IDENTITY',
        `kit.lock: option \`key\` returned ${describe(id)}; it must return a string that is not empty, or null to take no lock`,
      );
    }
    const budget = deps.budgetOf(req);
    let attempt: Attempt;
    try {
      attempt = await locks.attempt(id, settings.lease, true, budget);
    } catch (error) {
      return withoutAnswer(error, res);
    }
    if ('handle' in attempt) {
      request.lock = attempt.handle;
      holdWhileRunning(req, res, attempt.handle, { settings, failed, budget });
      return 'continue';
    }
    const conflict = { key: id, expiresInMs: attempt.heldForMs };
    if (settings.handler === undefined) sendConflict(res);
    else await settings.handler(request, res as Res, next, conflict);
    return 'answered';
  }

  function withoutAnswer(error: unknown, res: ServerResponse): Outcome {
    if (!(error instanceof RedisKitError)) throw error;
    failed(error);
    // Somebody whose lock we cannot read may hold it: that is no outage.
    const isOutage = error.code !== 'ERR_REDIS_KIT_NEWER_FORMAT';
    if (settings.onError === 'allow' && isOutage) return 'continue';
    sendUnavailable(res, 'lock');
    return 'answered';
  }

  return function lock(req: IncomingMessage, res: ServerResponse, next: Next): void {
    settle(next, failed, (once) => acquire(req, res, once));
  };
}

function sendConflict(res: ServerResponse): void {
  sendProblem(res, {
    status: 409,
    title: 'Conflict',
    detail: 'Another request is working on the same resource.',
    retryAfterMs: RETRY_AFTER_MS,
  });
}
