import type { ServerResponse } from 'node:http';
import expressSession from 'express-session';
import { ConfigError } from '../base/errors.ts';
import { isIdentity, kindOf } from '../base/identity.ts';
import type { Req } from '../http/middleware.ts';
import { invokeCallback } from './callback.ts';
import type { MiddlewareStore } from './middleware-store.ts';
import type { SessionSettings } from './options.ts';
import type { SignedCookies } from './signed-cookie.ts';

export interface SessionLoad {
  readonly req: Req;
  /** Undefined for a request without a response, such as a WebSocket upgrade. */
  readonly res: ServerResponse | undefined;
  readonly store: MiddlewareStore;
  /** The id of the session to load, when the client has sent several cookies. */
  readonly id: string | undefined;
  /** `sendCookie` sets the session cookie on the response if it must be sent. */
  loaded(error: unknown, sendCookie: () => void): void;
}

type ExpressCookie = Exclude<expressSession.SessionOptions['cookie'], undefined>;

/** Loads sessions through express-session, which neither saves them nor sets the cookie itself. */
export function sessionLoader(
  settings: SessionSettings,
  store: MiddlewareStore,
  cookies: SignedCookies,
): (load: SessionLoad) => void {
  const { name, cookie, rolling, saveUninitialized, unset, genid, proxy } = settings;
  // express-session calls `store.get` synchronously, so the store of the request is known then.
  let current = store;
  store.get = (id, callback) => {
    const work = current.loadSession(id, current.sessions.deadline);
    invokeCallback(work, callback);
    return work;
  };
  const handle = expressSession({
    name,
    // The types of express-session omit `sameSite: 'auto'`.
    cookie: cookie as ExpressCookie,
    rolling,
    saveUninitialized,
    unset,
    resave: false,
    secret: [...cookies.secrets],
    store,
    ...(genid === undefined ? {} : { genid }),
    ...(proxy === undefined ? {} : { proxy }),
  });

  const { generate } = store;
  store.generate = (req) => {
    generate(req);
    const id: unknown = req.sessionID;
    if (isIdentity(id)) return;
    throw new ConfigError(
      `kit.session: option \`genid\` returned ${kindOf(id)}; it must return a string that is not empty, and no promise`,
    );
  };

  return function load({ req, res, store: requestStore, id, loaded }) {
    const cookieResponse = new CookieResponse(res);
    const { cookie: sent } = req.headers;
    current = requestStore;
    // express-session reads the first cookie of the name, synchronously.
    if (id !== undefined) req.headers.cookie = `${name}=${encodeURIComponent(cookies.valueOf(id))}`;
    try {
      // express-session calls `next` again when it cannot write the cookie.
      const next = (error?: unknown) => loaded(error, () => cookieResponse.sendCookie());
      Reflect.apply(handle, undefined, [req, cookieResponse, next]);
    } finally {
      current = store;
      if (id !== undefined) req.headers.cookie = sent;
    }
  };
}

/**
 * The response that express-session sees. Its own `end` would send the headers before it saves, and its head listener would
 * set the cookie before `kit.session` has decided on it. express-session wraps the methods of this object, and the real
 * response keeps its own.
 */
class CookieResponse {
  readonly #res: ServerResponse | undefined;
  statusCode = 200;

  constructor(res: ServerResponse | undefined) {
    this.#res = res;
  }

  /** Calls the head listener of express-session, which wraps `writeHead`. */
  sendCookie(): void {
    this.writeHead();
  }

  writeHead(): void {
    // The real response sends the headers.
  }

  end(): void {
    // The real response ends itself.
  }

  getHeader(name: string): ReturnType<ServerResponse['getHeader']> {
    return this.#res?.getHeader(name);
  }

  setHeader(name: string, value: number | string | readonly string[]): void {
    this.#res?.setHeader(name, value);
  }
}
