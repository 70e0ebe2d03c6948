import type { Next } from './middleware.ts';

/** What a middleware did with a request: hand it on, or answer it. */
export type Outcome = 'continue' | 'answered';

/**
 * Ends a middleware's work with exactly one call of `next`, or none. What `next` itself throws is not ours to
 * catch: it would be handed on as a second call.
 */
export function settle(work: Promise<Outcome>, next: Next): void {
  work.then(
    (outcome) => {
      if (outcome === 'continue') next();
    },
    (error: unknown) => next(error),
  );
}
