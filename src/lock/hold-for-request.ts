import type { IncomingMessage, ServerResponse } from 'node:http';
import { LockLostError } from '../base/errors.ts';
import type { Deadline } from '../engine/deadline.ts';
import { asExpress, type Res } from '../http/middleware.ts';
import { addResponseHook, type ResponseHook } from '../http/response/guarded-response.ts';
import { whenUnserved } from '../http/response/unserved.ts';
import { callInBackground } from '../http/run-middleware.ts';
import type { KitLockHandle } from './handle.ts';
import type { LockSettings } from './options.ts';

/** Limits the time for which a request holds its lock to `maxHold`. Returns a function that releases the lock. */
export function holdForRequest(
  req: IncomingMessage,
  res: ServerResponse,
  handle: KitLockHandle,
  { maxHold, onLost, deadline, failed }: Pick<LockSettings, 'maxHold' | 'onLost'> & HoldDeps,
): () => Promise<void> {
  const timer = setTimeout(() => {
    const keys = handle.keys.map((key) => `'${key}'`).join(', ');
    handle.lose(new LockLostError(`the request held the lock ${keys} for more than ${maxHold} ms`));
    void handle.release();
  }, maxHold).unref();

  if (onLost !== undefined) {
    // An exception in a listener of an AbortSignal would end the process.
    const callOnLost = () =>
      callInBackground(() => onLost(asExpress(req), res as Res, handle.signal.reason as Error), failed);
    handle.signal.addEventListener('abort', callOnLost, { once: true });
  }

  return () => {
    clearTimeout(timer);
    return handle.release(deadline).then(() => undefined);
  };
}

interface HoldDeps {
  readonly deadline: Deadline;
  failed(error: unknown): void;
}

/** Releases the lock when the handler has ended the response, whether or not the client is still connected. */
export function releaseWithResponse(res: ServerResponse, release: () => Promise<void>): void {
  addResponseHook(res, hookOf(release));
  whenUnserved(res, () => void release());
}

/**
 * Calls the handler and releases the lock when its promise settles; if it returns no promise, when the response ends.
 * A response that the handler ends in its last statement is sent after the release, so that a client that sends one
 * request after the other does not meet its own last lock; a response that ends earlier is sent at once. Rejects as the
 * handler does.
 */
export async function releaseAfterHandler(
  res: ServerResponse,
  release: () => Promise<void>,
  handler: () => unknown,
): Promise<void> {
  let returnsPromise = false;
  let released: Promise<void> | undefined;
  const hook = hookOf(async () => {
    // The promise of a handler that ends here settles within this turn of the event loop.
    await new Promise((resolve) => setImmediate(resolve));
    if (!returnsPromise) released ??= release();
    await released;
  });
  addResponseHook(res, hook);
  // A middleware below made the request wait. It will not call `next`, which the handler may wait for.
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
