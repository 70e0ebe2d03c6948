import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Middleware } from './middleware.ts';

const PIPELINED: unique symbol = Symbol('how a middleware runs in a pipeline');

/**
 * Sends the command that a middleware would send first, before its turn, and keeps the promise of the reply for the
 * middleware. The command must have no side effects, since the middleware may never get its turn.
 */
export type ReadAhead = (req: IncomingMessage, res: ServerResponse) => void;

/** How a middleware runs in a pipeline. */
export interface Pipelined {
  readonly readAhead: ReadAhead;
  /**
   * Whether reads of later middleware may be sent while this one waits: not if it waits for other requests, whose
   * changes the later middleware must see. Default true.
   */
  readonly isOvertaken: boolean;
}

export function withReadAhead<Handler extends Middleware>(
  middleware: Handler,
  readAhead: ReadAhead,
  { isOvertaken = true }: Partial<Pick<Pipelined, 'isOvertaken'>> = {},
): Handler {
  return Object.assign(middleware, { [PIPELINED]: { readAhead, isOvertaken } });
}

/** Lets reads of later middleware be sent while this one, which has no read of its own, waits for Redis. */
export function withoutReadAhead<Handler extends Middleware>(middleware: Handler): Handler {
  return withReadAhead(middleware, () => undefined);
}

/** How a middleware runs in a pipeline; undefined for one that takes its turn, before and after which nothing is sent. */
export function pipelinedOf(
  middleware: Middleware & { readonly [PIPELINED]?: Pipelined },
): Pipelined | undefined {
  return middleware[PIPELINED];
}
