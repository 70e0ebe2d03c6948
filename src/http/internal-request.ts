import { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { type Next, originalUrl } from './middleware.ts';

/* Requests that the kit itself sends to an Express app, which is a function of a request and a response. */

type App = ((req: IncomingMessage, res: ServerResponse, next: Next) => void) & { readonly parent?: App };

const PURPOSE: unique symbol = Symbol('the purpose of an internal request');

interface InternalRequest extends IncomingMessage {
  [PURPOSE]?: unknown;
}

/** The purpose of an internal request; undefined for a client's request, which cannot set it. */
export function internalPurposeOf(req: InternalRequest): unknown {
  return req[PURPOSE];
}

/**
 * Whether this is a request of `kit.cache` to revalidate a stale response; a client cannot send one. For middleware above the
 * cache that would refuse it, such as the rate limiter of another package: `skip: isRevalidation`.
 */
export function isRevalidation(req: IncomingMessage): boolean {
  return internalPurposeOf(req) !== undefined;
}

/** The outermost Express app of a request; undefined if it cannot be sent an internal request. */
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
  /** The client's request whose URL and connection the new one has. */
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
  // Node's server forwards 'drain' from the socket; handlers that stream wait for it.
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
    // Called if no handler responds.
    app(req, res, () => res.destroy());
  });
}

/** Discards everything that is written. The app sees the address of the connection of the original request. */
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
