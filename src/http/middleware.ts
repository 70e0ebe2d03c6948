import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Request, Response } from 'express';

/** Continues with the next handler; with an error, with the next error handler. */
export type Next = (error?: unknown) => void;

/** A middleware of the kit: for `app.use` and the routes of Express 4 and 5, and for Connect. */
export type Middleware = (req: IncomingMessage, res: ServerResponse, next: Next) => void;

/** The request as callbacks of the options see it. Under plain Connect only what `IncomingMessage` has is there. */
export type Req = Request;

/** The response as callbacks of the options see it. */
export type Res = Response;

/**
 * The one cast between what Node hands to a middleware and what users' callbacks are typed with: an app that
 * passes Express's request gets Express's request.
 */
export function asExpress(req: IncomingMessage): Req {
  return req as Req;
}

/** The path and query as the client sent them, also inside a mounted router, which rewrites `req.url`. */
export function originalUrl(req: IncomingMessage): string {
  const { originalUrl: original } = req as { originalUrl?: unknown };
  return typeof original === 'string' ? original : (req.url ?? '/');
}
