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
  /** The id of the session to load when the client has sent several session cookies; else undefined. */
  readonly id: string | undefined;
  /** `sendCookie` sets the session cookie on the response if it must be sent. */
  loaded(error: unknown, sendCookie: () => void): void;
}

type ExpressCookie = Exclude<expressSession.SessionOptions['cookie'], undefined>;

/** Loads sessions through express-session, but keeps it from saving sessions and setting the cookie itself. */
export function sessionLoader(
  settings: SessionSettings,
  store: MiddlewareStore,
  cookies: SignedCookies,
): (load: SessionLoad) => void {
  const { name, cookie, rolling, saveUninitialized, unset, genid, proxy } = settings;
  // express-session calls `store.get` synchronously, so `current` is then the store of the calling request.
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
    // express-session synchronously reads the first cookie with the name, so the header temporarily has only this
    // cookie.
    if (id !== undefined) req.headers.cookie = `${name}=${encodeURIComponent(cookies.valueOf(id))}`;
    try {
      // express-session calls `next` a second time when it cannot write the cookie.
      const next = (error?: unknown) => loaded(error, () => cookieResponse.sendCookie());
      Reflect.apply(handle, undefined, [req, cookieResponse, next]);
    } finally {
      current = store;
      if (id !== undefined) req.headers.cookie = sent;
    }
  };
}

/**
 * The response that express-session gets, whose methods it wraps in place of those of the real response. Otherwise,
 * express-session's `end` would send the headers before the save, and express-session's head listener would set the
 * cookie before `kit.session` has decided on the cookie.
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
    // Sends nothing: the real response sends the headers.
  }

  end(): void {
    // Ends nothing: the app ends the real response.
  }

  getHeader(name: string): ReturnType<ServerResponse['getHeader']> {
    return this.#res?.getHeader(name);
  }

  setHeader(name: string, value: number | string | readonly string[]): void {
    this.#res?.setHeader(name, value);
  }
}
