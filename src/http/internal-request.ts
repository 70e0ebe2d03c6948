import { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { Next } from './middleware.ts';
import { originalUrl } from './middleware.ts';

/* An Express app can be asked again without a client: it is a function of a request and a response. */

type App = ((req: IncomingMessage, res: ServerResponse, next: Next) => void) & { readonly parent?: App };

const REENTRY: unique symbol = Symbol('what a request without a client is for');

interface Reentered extends IncomingMessage {
  [REENTRY]?: unknown;
}

/** A request that the kit made itself, and for what; undefined for a client's. No client can say so. */
export function internalPurposeOf(req: Reentered): unknown {
  return req[REENTRY];
}

/**
 * Whether this is a request that `kit.cache` makes itself to revalidate a stale response. No client can claim it. For
 * middleware above the cache that would refuse it, such as another package's rate limit: `skip: isRevalidation`.
 */
export function isRevalidation(req: IncomingMessage): boolean {
  return internalPurposeOf(req) !== undefined;
}

/** The app as a whole, which saw the request first; undefined where there is none to ask. */
export function rootAppOf(req: IncomingMessage): App | undefined {
  let { app } = req as { app?: unknown };
  // HTTP/2 has requests of its own, which cannot be made up, and the content of a QUERY has been read.
  if (req.httpVersionMajor > 1 || req.method === 'QUERY') return undefined;
  while (typeof app === 'function') {
    const { parent } = app as App;
    if (typeof parent !== 'function') return app as App;
    app = parent;
  }
  return undefined;
}

/** Has Node note whose connection it is while it is there: once it has closed, only what was asked for before is known. */
export function keepClientAddress({ socket }: IncomingMessage): void {
  void socket?.remoteAddress;
}

/**
 * Runs the app once more for a request like this one, with these headers, and throws away what it answers. Resolves
 * when the answer is complete or broken off, at the latest after so many milliseconds, to the status that was sent;
 * rejects when it was broken off with an error.
 */
export function sendInternalRequest(
  app: App,
  like: IncomingMessage,
  headers: IncomingMessage['headers'],
  purpose: unknown,
  timeoutMs: number,
): Promise<number | undefined> {
  const socket = new NowhereSocket(like.socket);
  const req: Reentered = new IncomingMessage(socket as unknown as Socket);
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
  req[REENTRY] = purpose;
  const res = new ServerResponse(req);
  res.assignSocket(socket as unknown as Socket);
  // Node's server passes it on for connections of its own; whoever streams waits for it.
  socket.on('drain', () => res.emit('drain'));
  return new Promise((resolve, reject) => {
    // Without a listener it would end the process: a source that breaks in the middle takes its response along.
    socket.on('error', reject);
    const timer = setTimeout(() => res.destroy(), timeoutMs).unref();
    res.on('finish', () => socket.destroy());
    res.on('close', () => {
      clearTimeout(timer);
      resolve(res.headersSent ? res.statusCode : undefined);
    });
    // What no handler answers ends here.
    app(req, res, () => res.destroy());
  });
}

/** Takes everything and keeps nothing. To the app it is the connection of the request that it stands for. */
class NowhereSocket extends Duplex {
  readonly remoteAddress: string | undefined;
  readonly remoteFamily: string | undefined;
  readonly encrypted: boolean | undefined;

  constructor(like: Socket & { readonly encrypted?: boolean }) {
    super();
    this.remoteAddress = like.remoteAddress;
    this.remoteFamily = like.remoteFamily;
    this.encrypted = like.encrypted;
  }

  override _read(): void {
    // Nothing comes from nowhere.
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
