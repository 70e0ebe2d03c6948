import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe } from '../base/describe.ts';
import { type ErrorCode, RedisKitError } from '../base/errors.ts';
import type { RequestDeadlines } from '../engine/deadline.ts';
import { withoutIdentityWatch } from '../http/identity/identity-watch.ts';
import { asExpress, type Next, type Res } from '../http/middleware.ts';
import { RETRY_AFTER_MS, sendProblem, sendUnavailable } from '../http/problem-details.ts';
import { closeSignalOf } from '../http/response/close-signal.ts';
import type { MiddlewareOutcome } from '../http/run-middleware.ts';
import type { Handle } from './handle.ts';
import type { LockConflict, LockSettings } from './options.ts';
import type { Attempt, LockRoom } from './room.ts';
import { locksOf } from './scope.ts';

interface AcquirerDeps {
  readonly room: LockRoom;
  readonly deadlines: RequestDeadlines;
  failed(error: unknown): void;
}

/** Somebody may hold the lock: one whom we cannot read, who took it from us, or whom a kit that closes waits for. */
const NO_OUTAGE: ReadonlySet<ErrorCode> = new Set([
  'ERR_REDIS_KIT_NEWER_FORMAT',
  'ERR_REDIS_KIT_LOCK_LOST',
  'ERR_REDIS_KIT_CLOSED',
]);

/** Locks what a request asks for: the handle, or, where it goes on without one or is answered, that. */
export function acquirer(settings: LockSettings, { room, deadlines, failed }: AcquirerDeps) {
  return async function acquire(
    req: IncomingMessage,
    res: ServerResponse,
    next: Next,
  ): Promise<Handle | MiddlewareOutcome> {
    const ids = keysOf(await withoutIdentityWatch(() => settings.key(asExpress(req))));
    if (ids === null) return 'continue';
    const deadline = deadlines.of(req);
    const { lease: leaseMs, wait: waitMs, isFair } = settings;
    const signal = waitMs > 0 ? closeSignalOf(res) : undefined;
    let attempt: Attempt;
    try {
      const own = locksOf(req);
      const wanted = { leaseMs, waitMs, isFair, renew: true, metadata: '', signal, deadline, own };
      attempt = await room.attempt(ids, wanted);
    } catch (error) {
      return signal?.aborted === true ? 'gone' : withoutAnswer(error, res);
    }
    if ('handle' in attempt) {
      if (signal?.aborted !== true) return attempt.handle;
      // No client is left for which the handler should begin.
      await attempt.handle.release(deadline);
      return 'gone';
    }
    const { refusal } = attempt;
    const conflict = { key: refusal.key, hasWaited: waitMs > 0, expiresInMs: refusal.expiresInMs };
    if (settings.handler === undefined) sendConflict(res, conflict);
    else await settings.handler(asExpress(req), res as Res, next, conflict);
    return 'answered';
  };

  function withoutAnswer(error: unknown, res: ServerResponse): MiddlewareOutcome {
    const isOurs = error instanceof RedisKitError && error.code !== 'ERR_REDIS_KIT_LOCK_REENTRY';
    if (!isOurs) throw error;
    failed(error);
    if (settings.onError === 'allow' && !NO_OUTAGE.has(error.code)) return 'continue';
    sendUnavailable(res, 'lock');
    return 'answered';
  }
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

function sendConflict(res: ServerResponse, { hasWaited }: LockConflict): void {
  sendProblem(res, {
    ...(hasWaited ? { status: 503, title: 'Service Unavailable' } : { status: 409, title: 'Conflict' }),
    detail: 'Another request is working on the same resource.',
    retryAfterMs: RETRY_AFTER_MS,
  });
}
