import type { Next } from './middleware.ts';

/** What a middleware did with a request: hand it on, or answer it. */
export type Outcome = 'continue' | 'answered';

/**
 * Does a middleware's work and ends it with exactly one call of `next`, or none. The work may hand the `next` that
 * it is given to a user's callback; what fails after that was called is told to `late`. What the app's `next` itself
 * throws is not ours to catch: it would be handed on as a second call.
 */
export function settle(
  next: Next,
  late: (error: unknown) => void,
  work: (next: Next) => Promise<Outcome>,
): void {
  let wentOn = false;
  function goOn(error?: unknown): void {
    if (!wentOn) {
      wentOn = true;
      next(error);
    } else if (error !== undefined) late(error);
  }
  work(goOn).then(
    (outcome) => {
      if (outcome === 'continue') goOn();
    },
    (error: unknown) => goOn(error),
  );
}

/** Calls a user's callback that nobody waits for; its failure, at once or later, is told to `failed`. */
export function callAside(callback: () => unknown, failed: (error: unknown) => void): void {
  (async () => callback())().catch(failed);
}
