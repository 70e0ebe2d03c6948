import type { IncomingMessage, ServerResponse } from 'node:http';
import { LockLostError } from '../base/errors.ts';
import type { Deadline } from '../engine/deadline.ts';
import { asExpress, type Res } from '../http/middleware.ts';
import { addResponseHook } from '../http/response/guarded-response.ts';
import { whenUnserved } from '../http/response/unserved.ts';
import { callInBackground } from '../http/run-middleware.ts';
import type { Handle } from './handle.ts';
import type { LockSettings } from './options.ts';

export interface HoldContext {
  readonly settings: LockSettings;
  failed(error: unknown): void;
  readonly deadline: Deadline;
}

/** The hold of a request: it ends with its work, or after `maxHold`. Answers with the way to end it. */
export function hold(
  req: IncomingMessage,
  res: ServerResponse,
  handle: Handle,
  { settings, failed, deadline }: HoldContext,
): () => Promise<void> {
  const { maxHold, onLost } = settings;
  const tooLong = setTimeout(() => {
    const keys = handle.keys.map((key) => `'${key}'`).join(', ');
    handle.lose(new LockLostError(`the request held the lock ${keys} for more than ${maxHold} ms`));
    void handle.release();
  }, maxHold).unref();

  if (onLost !== undefined) {
    // What a listener of an AbortSignal throws ends the process.
    const tell = () =>
      callInBackground(() => onLost(asExpress(req), res as Res, handle.signal.reason as Error), failed);
    handle.signal.addEventListener('abort', tell, { once: true });
  }

  return () => {
    clearTimeout(tooLong);
    return handle.release(deadline).then(() => undefined);
  };
}

/** Holds a lock for as long as the request's handler runs, whether or not its client is still there. */
export function endWithResponse(res: ServerResponse, end: () => Promise<void>): void {
  addResponseHook(res, { phase: 'lock', withholdsLastBytes: true, outlastsRefusal: true, beforeEnd: end });
  whenUnserved(res, () => void end());
}

/**
 * Holds a lock until the promise of the work settles; of work that gives none, until the response is over. What is sent
 * with the last statement leaves after the release, so that a client that asks one thing after the other never meets its
 * own last lock; what is sent earlier leaves at once. Rejects as the work does.
 */
export async function holdWhileWorking(
  res: ServerResponse,
  end: () => Promise<void>,
  work: () => unknown,
): Promise<void> {
  let isPromised = false;
  let ended: Promise<void> | undefined;
  addResponseHook(res, {
    phase: 'lock',
    withholdsLastBytes: true,
    outlastsRefusal: true,
    beforeEnd: async () => {
      // A promise whose work ends here settles within this turn of the event loop.
      await new Promise((resolve) => setImmediate(resolve));
      if (!isPromised) ended ??= end();
      await ended;
    },
  });
  // A middleware below let the request wait, and its `next`, for which the work may wait, is never called.
  whenUnserved(res, () => {
    ended ??= end();
  });
  try {
    const result = work();
    isPromised = typeof result === 'object' && result !== null && 'then' in result;
    await result;
  } catch (error) {
    isPromised = true;
    throw error;
  } finally {
    if (isPromised) {
      ended ??= end();
      await ended;
    }
  }
}
