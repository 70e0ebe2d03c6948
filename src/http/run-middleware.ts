import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Next } from './middleware.ts';
import { isClosed } from './response/close-signal.ts';
import { endUnserved, hasClientLeft } from './response/unserved.ts';

/** What a middleware did with a request: hand it on, answer it, or neither, since its client left while it waited. */
export type MiddlewareOutcome = 'continue' | 'answered' | 'gone';

/** What a middleware is called with. */
interface Call {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly next: Next;
}

/**
 * Does a middleware's work and ends it with exactly one call of `next`, or none. The work may hand the `next` that
 * it is given to a user's callback; what fails after that was called is reported to `late`. What the app's `next` itself
 * throws is not ours to catch: it would be handed on as a second call.
 */
export function runMiddleware(
  call: Call,
  late: (error: unknown) => void,
  work: (next: Next) => Promise<MiddlewareOutcome>,
): void {
  let wentOn = false;
  function goOn(error?: unknown): void {
    if (!wentOn) {
      wentOn = true;
      call.next(error);
    } else if (error !== undefined) late(error);
  }
  work(goOn).then(
    (outcome) => {
      if (outcome === 'continue') goOn();
      else if (outcome === 'gone') endUnserved(call.res);
    },
    (error: unknown) => {
      if (wentOn) late(error);
      else passError({ ...call, next: goOn }, error);
    },
  );
}

/**
 * Hands an error on to the app. Not where the client has left: what a callback reads of a connection that is gone is
 * missing, and an error handler would log that as the app's mistake and answer nobody.
 */
export function passError({ req, res, next }: Call, error: unknown): void {
  if (hasClientLeft(req, res)) endUnserved(res);
  else next(error);
}

/** The outcome of work during which a request may wait: `'gone'` as soon as its client leaves. */
export function untilClientLeaves(
  res: ServerResponse,
  begin: () => Promise<MiddlewareOutcome>,
): Promise<MiddlewareOutcome> {
  if (isClosed(res)) return Promise.resolve('gone');
  const work = begin();
  return new Promise((resolve, reject) => {
    const left = () => resolve('gone');
    res.once('close', left);
    work.then(resolve, reject).finally(() => res.off('close', left));
  });
}

/** Calls a user's callback that is not waited for; its failure, at once or later, is reported to `failed`. */
export function callInBackground(callback: () => unknown, failed: (error: unknown) => void): void {
  (async () => callback())().catch(failed);
}
