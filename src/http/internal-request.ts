import { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { type Next, originalUrl } from './middleware.ts';

/* Internal requests are sent by the kit itself, which calls the Express app with a new request and a new response. */

type App = ((req: IncomingMessage, res: ServerResponse, next: Next) => void) & { readonly parent?: App };

const PURPOSE: unique symbol = Symbol('the purpose of an internal request');

interface InternalRequest extends IncomingMessage {
  [PURPOSE]?: unknown;
}

/** The purpose of an internal request; undefined for a client's request. A client cannot set a purpose. */
export function internalPurposeOf(req: InternalRequest): unknown {
  return req[PURPOSE];
}

/**
 * Whether `kit.cache` sends this request to revalidate a stale response. Clients cannot send such a request. Use this
 * check for middleware above the cache that must not refuse revalidations, such as another package's rate limiter:
 * `skip: isRevalidation`.
 */
export function isRevalidation(req: IncomingMessage): boolean {
  return internalPurposeOf(req) !== undefined;
}

/** The outermost Express app of a request; undefined if the kit cannot repeat the request as an internal request. */
export function rootAppOf(req: IncomingMessage): App | undefined {
  let { app } = req as { app?: unknown };
  // HTTP/2 requests cannot be constructed, and the content of a QUERY has been read already.
  if (req.httpVersionMajor > 1 || req.method === 'QUERY') return undefined;
  while (typeof app === 'function') {
    const { parent } = app as App;
    if (typeof parent !== 'function') return app as App;
    app = parent;
  }
  return undefined;
}

/** Makes Node cache the client's address, which cannot be read once the connection has closed. */
export function keepClientAddress({ socket }: IncomingMessage): void {
  void socket?.remoteAddress;
}

interface InternalRequestOptions {
  /** The client's request, from which the internal request has its URL, its HTTP version and its client address. */
  readonly like: IncomingMessage;
  readonly headers: IncomingMessage['headers'];
  readonly purpose: unknown;
  readonly timeoutMs: number;
}

/**
 * Sends a GET request to the app and discards the response. Resolves to the status when the response ends or is aborted, or
 * after `timeoutMs`; the status is undefined if no header was sent. Rejects if the response is destroyed with an error.
 */
export function sendInternalRequest(
  app: App,
  { like, headers, purpose, timeoutMs }: InternalRequestOptions,
): Promise<number | undefined> {
  const socket = new NullSocket(like.socket);
  const req: InternalRequest = new IncomingMessage(socket as unknown as Socket);
  req.method = 'GET';
  req.url = originalUrl(like);
  req.httpVersion = like.httpVersion;
  req.httpVersionMajor = like.httpVersionMajor;
  req.httpVersionMinor = like.httpVersionMinor;
  req.headers = headers;
  req.rawHeaders = Object.entries(headers).flatMap(([name, value]) => [name, String(value)]);
  req.complete = true;
  // A GET has no body.
  req.push(null);
  req[PURPOSE] = purpose;
  const res = new ServerResponse(req);
  res.assignSocket(socket as unknown as Socket);
  // Handlers that stream wait for 'drain', which Node's server would forward from the socket.
  socket.on('drain', () => res.emit('drain'));
  return new Promise((resolve, reject) => {
    // `stream.pipeline` destroys the response with an error when its source fails.
    socket.on('error', reject);
    const timer = setTimeout(() => res.destroy(), timeoutMs).unref();
    res.on('finish', () => socket.destroy());
    res.on('close', () => {
      clearTimeout(timer);
      resolve(res.headersSent ? res.statusCode : undefined);
    });
    // The app calls `next` if no handler responds.
    app(req, res, () => res.destroy());
  });
}

/** A socket that discards all bytes. The app reads the client address of the original request from it. */
class NullSocket extends Duplex {
  constructor({ remoteAddress, remoteFamily, encrypted }: Socket & { readonly encrypted?: boolean }) {
    super();
    Object.assign(this, { remoteAddress, remoteFamily, encrypted });
  }

  override _read(): void {
    // There is nothing to read.
  }

  override _write(_chunk: unknown, _encoding: string, done: () => void): void {
    done();
  }

  setTimeout(): this {
    return this;
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }

  destroySoon(): void {
    this.destroy();
  }
}
