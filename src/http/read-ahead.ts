import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Middleware } from './middleware.ts';

const READ_AHEAD: unique symbol = Symbol('the read ahead of a middleware');

/**
 * Sends the command that a middleware would send first, before its turn, and keeps the promise of the reply for the
 * middleware. The command must have no side effects, since the middleware may never get its turn.
 */
export type ReadAhead = (req: IncomingMessage, res: ServerResponse) => void;

export function withReadAhead<Handler extends Middleware>(
  middleware: Handler,
  readAhead: ReadAhead,
): Handler {
  return Object.assign(middleware, { [READ_AHEAD]: readAhead });
}

/** The read ahead of a middleware; undefined if it has none. */
export function readAheadOf(
  middleware: Middleware & { readonly [READ_AHEAD]?: ReadAhead },
): ReadAhead | undefined {
  return middleware[READ_AHEAD];
}
