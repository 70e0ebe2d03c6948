import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Request, Response } from 'express';

/** Calls the next handler, or, with an error, the next error handler. */
export type Next = (error?: unknown) => void;

/** A middleware for `app.use` and routes of Express 4 and 5, and for Connect. */
export type Middleware = (req: IncomingMessage, res: ServerResponse, next: Next) => void;

/** The request that callbacks receive. Under Connect, a request has only the properties of `IncomingMessage`. */
export type Req = Request;

/** The response that callbacks receive. */
export type Res = Response;

/** Casts a request to Express's type, which users' callbacks expect. */
export function asExpress(req: IncomingMessage): Req {
  return req as Req;
}

/** The path and query that the client sent. Routers rewrite `req.url` and keep the original in `req.originalUrl`. */
export function originalUrl(req: IncomingMessage): string {
  const { originalUrl: original } = req as { originalUrl?: unknown };
  return typeof original === 'string' ? original : (req.url ?? '/');
}
