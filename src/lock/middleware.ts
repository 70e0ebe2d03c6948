import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe } from '../base/check.ts';
import { asError, ConfigError, RedisKitError } from '../base/errors.ts';
import type { BudgetOf } from '../engine/budget.ts';
import { asExpress, type Middleware, type Next, type Req, type Res } from '../http/middleware.ts';
import { callAside, type Outcome, settle } from '../http/outcome.ts';
import { sendProblem, sendUnavailable } from '../http/problem.ts';
import type { LockDeps } from './asking.ts';
import type { Handle, LockHandle } from './handle.ts';
import { endWithResponse, hold, holdWhileWorking } from './hold.ts';
import { type LockConflict, type LockOptions, resolveLockOptions } from './options.ts';
import { type Attempt, LockRoom } from './room.ts';

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

/** When the holder will be done nobody knows; most requests take less than this. */
const RETRY_AFTER_MS = 1_000;

export function lockMiddleware(
  options: LockOptions<never>,
  deps: LockDeps & { readonly budgetOf: BudgetOf },
  handler?: LockHandler<never, never>,
): Middleware {
  const settings = resolveLockOptions(options);
  if (handler !== undefined && typeof handler !== 'function') {
    throw new ConfigError(`kit.lock: the handler is ${describe(handler)}; it must be a function`);
  }
  const room = new LockRoom(deps);
  if (settings.wait > 0) deps.turns.listen();
  const make = handler as unknown as LockHandler<IncomingMessage, ServerResponse> | undefined;
  const failed = (error: unknown) => void deps.reporter.failure('lock', asError(error));

  /** The handle; nothing where the request goes on without one, or is answered. */
  async function acquire(req: IncomingMessage, res: ServerResponse, next: Next): Promise<Handle | Outcome> {
    const ids = keysOf(await settings.key(asExpress(req)));
    if (ids === null) return 'continue';
    const budget = deps.budgetOf(req);
    const { lease: leaseMs, wait: waitMs, isFair } = settings;
    const client = waitMs > 0 ? clientOf(res) : undefined;
    const { signal } = client ?? {};
    let attempt: Attempt;
    try {
      const wanted = { leaseMs, waitMs, isFair, renew: true, metadata: '', signal, budget };
      attempt = await room.attempt(ids, wanted);
    } catch (error) {
      return signal?.aborted === true ? 'answered' : withoutAnswer(error, res);
    } finally {
      client?.forget();
    }
    if ('handle' in attempt) {
      if (signal?.aborted !== true) return attempt.handle;
      // Nobody is there any more for whom the handler should begin.
      await attempt.handle.release(budget);
      return 'answered';
    }
    const { refusal } = attempt;
    const conflict = { key: refusal.key, hasWaited: waitMs > 0, expiresInMs: refusal.expiresInMs };
    if (settings.handler === undefined) sendConflict(res, conflict);
    else await settings.handler(asExpress(req), res as Res, next, conflict);
    return 'answered';
  }

  function withoutAnswer(error: unknown, res: ServerResponse): Outcome {
    const isOurs = error instanceof RedisKitError && error.code !== 'ERR_REDIS_KIT_LOCK_REENTRY';
    if (!isOurs) throw error;
    failed(error);
    // Somebody whose lock we cannot read may hold it: that is no outage.
    const isOutage = error.code !== 'ERR_REDIS_KIT_NEWER_FORMAT';
    if (settings.onError === 'allow' && isOutage) return 'continue';
    sendUnavailable(res, 'lock');
    return 'answered';
  }

  return function lock(req: IncomingMessage, res: ServerResponse, next: Next): void {
    let got: Handle | Outcome = 'answered';

    function goOn(error?: unknown): void {
      // Whoever takes a refusal over goes on without what should have worked under the lock.
      if (error !== undefined || got === 'answered') next(error);
      else if (got === 'continue') work(undefined);
      else room.under(got, () => work(got as Handle));
    }

    function work(handle: Handle | undefined): void {
      if (make === undefined) {
        next();
        return;
      }
      const call = () => make(req, res, handle as LockHandle);
      callAside(handle === undefined ? call : () => holdWhileWorking(res, endOf(handle), call), next);
    }

    const endOf = (handle: Handle) =>
      hold(req, res, handle, { settings, failed, budget: deps.budgetOf(req) });

    settle(goOn, failed, async (once) => {
      got = await acquire(req, res, once);
      if (typeof got === 'string') return got;
      asExpress(req).lock = got;
      if (make === undefined) endWithResponse(res, endOf(got));
      return 'continue';
    });
  };
}

function keysOf(key: unknown): readonly string[] | null {
  if (key === null) return null;
  const ids: readonly unknown[] = Array.isArray(key) ? key : [key];
  if (ids.length > 0 && ids.every((id) => typeof id === 'string' && id !== '')) return ids as string[];
  const wrong =
    Array.isArray(key) && key.length > 0 ? ids.find((id) => typeof id !== 'string' || id === '') : key;
  throw new RedisKitError(
    'ERR_REDIS_KIT_NO_IDENTITY',
    `kit.lock: option \`key\` returned ${describe(wrong)}; it must return a string that is not empty, several of them, or null to take no lock`,
  );
}

/** Tells when the client of a request goes away. */
function clientOf(res: ServerResponse): { readonly signal: AbortSignal; forget(): void } {
  const gone = new AbortController();
  const onClose = () => gone.abort();
  res.once('close', onClose);
  return { signal: gone.signal, forget: () => void res.off('close', onClose) };
}

function sendConflict(res: ServerResponse, { hasWaited }: LockConflict): void {
  sendProblem(res, {
    ...(hasWaited ? { status: 503, title: 'Service Unavailable' } : { status: 409, title: 'Conflict' }),
    detail: 'Another request is working on the same resource.',
    retryAfterMs: RETRY_AFTER_MS,
  });
}
