import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Next } from './middleware.ts';
import { isClosed } from './response/kit-reads.ts';
import { endUnserved, hasClientLeft } from './response/unserved.ts';
import { runInTurnBatch } from './turn-batch.ts';

/** How a middleware ends: it calls `next()`, it responds, or it does neither because the client has disconnected. */
export type MiddlewareOutcome = 'continue' | 'answered' | 'gone';

/** An outcome, now or later, or work that needs no reply of Redis and can wait for the end of the turn. */
export type Outcome = MiddlewareOutcome | Promise<MiddlewareOutcome | KnownOutcome> | KnownOutcome;

type KnownOutcome = () => MiddlewareOutcome | Promise<MiddlewareOutcome>;

export interface MiddlewareCall {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly next: Next;
}

/**
 * Runs a middleware, which may end synchronously, and calls `next` at most once. `work` may pass the `next` that it
 * receives to a user's callback; errors after `next` was called go to `late`. Errors that the app's `next` throws are not
 * passed on, since that would be a second call of `next`.
 */
export function runMiddleware(
  call: MiddlewareCall,
  late: (error: unknown) => void,
  work: (next: Next) => Outcome,
): void {
  let hasContinued = false;
  function continueOnce(error?: unknown): void {
    if (!hasContinued) {
      hasContinued = true;
      call.next(error);
    } else if (error !== undefined) late(error);
  }
  function end(outcome: MiddlewareOutcome): void {
    if (outcome === 'continue') continueOnce();
    else if (outcome === 'gone') endUnserved(call.res);
  }
  function fail(error: unknown): void {
    if (hasContinued) late(error);
    else passError({ ...call, next: continueOnce }, error);
  }
  function follow(step: () => Outcome): void {
    let outcome: Outcome;
    try {
      outcome = step();
    } catch (error) {
      fail(error);
      return;
    }
    if (typeof outcome === 'string') end(outcome);
    else if (typeof outcome === 'function') runInTurnBatch(call, () => follow(outcome));
    else outcome.then((later) => follow(() => later), fail);
  }
  follow(() => work(continueOnce));
}

/**
 * Passes an error to the app, unless the client has disconnected. Callbacks fail on a closed connection, which has no
 * client address: the app would log an error that is not its own, and no client receives a response.
 */
export function passError({ req, res, next }: MiddlewareCall, error: unknown): void {
  if (hasClientLeft(req, res)) endUnserved(res);
  else next(error);
}

/** Runs `begin` and resolves to its outcome, or to `'gone'` as soon as the client disconnects. */
export function untilClientLeaves(
  res: ServerResponse,
  begin: () => Promise<MiddlewareOutcome>,
): Promise<MiddlewareOutcome> {
  if (isClosed(res)) return Promise.resolve('gone');
  const work = begin();
  return new Promise((resolve, reject) => {
    const leave = () => resolve('gone');
    res.once('close', leave);
    work.then(resolve, reject).finally(() => res.off('close', leave));
  });
}

/** Calls a user's callback without waiting for it. Errors, thrown or rejected, go to `failed`. */
export function callInBackground(callback: () => unknown, failed: (error: unknown) => void): void {
  (async () => callback())().catch(failed);
}
