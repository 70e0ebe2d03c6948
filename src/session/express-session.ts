import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import expressSession from 'express-session';
import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';
import type { Req } from '../http/middleware.ts';
import { callBack } from './callback.ts';
import type { SessionSettings } from './options.ts';
import type { Secrets } from './secret.ts';
import type { SignedCookies } from './signed-cookie.ts';
import type { KitStore } from './store.ts';
import type { SessionDeps } from './user-index.ts';

/**
 * Loads the session of a request, with the store view of that request. `res` is undefined where none can be answered on;
 * `id` names the session where the client sent several.
 */
export type Load = (
  req: Req,
  res: ServerResponse | undefined,
  view: KitStore,
  loaded: Loaded,
  id?: string,
) => void;

/** `sendCookie` sets the session's cookie on the response where one is to be sent; it comes with each call. */
type Loaded = (error: unknown, sendCookie: () => void) => void;

type ExpressCookie = Exclude<expressSession.SessionOptions['cookie'], undefined>;

/** express-session, without its own way to save and with a store of its own for each request. */
export function sessionLoader(settings: SessionSettings, store: KitStore, cookies: SignedCookies): Load {
  const { name, cookie, rolling, saveUninitialized, unset, genid, proxy } = settings;
  // express-session reads through this property during its synchronous part.
  let reading = store;
  store.get = (id, callback) => {
    const work = reading.read(id, reading.request.scope.deadline);
    callBack(work, callback);
    return work;
  };
  const handle = expressSession({
    name,
    // Its types leave out `sameSite: 'auto'`.
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
    if (typeof id === 'string' && id !== '') return;
    throw new ConfigError(
      `kit.session: option \`genid\` returned ${describe(id)}; it must return a string that is not empty, at once`,
    );
  };

  return function load(req, res, view, loaded, id) {
    const cookieResponse = new CookieResponse(res);
    const { cookie: sent } = req.headers;
    reading = view;
    // It looks for the first cookie of the name, at once.
    if (id !== undefined) req.headers.cookie = `${name}=${encodeURIComponent(cookies.valueOf(id))}`;
    try {
      // It calls again when a cookie cannot be written.
      const goOn = (error?: unknown) => loaded(error, () => cookieResponse.sendCookie());
      Reflect.apply(handle, undefined, [req, cookieResponse, goOn]);
    } finally {
      reading = store;
      if (id !== undefined) req.headers.cookie = sent;
    }
  };
}

/**
 * What express-session has of a response. Its own `end` would send the head before it saves, and its listener for the head
 * would set the cookie before `kit.session` has decided on it; so it wraps the methods of this object, and the response
 * keeps its own.
 */
class CookieResponse {
  readonly #res: ServerResponse | undefined;
  statusCode = 200;

  constructor(res: ServerResponse | undefined) {
    this.#res = res;
  }

  /** Calls express-session's listener, which stands before `writeHead`. */
  sendCookie(): void {
    this.writeHead();
  }

  writeHead(): void {
    // The head is sent by the response itself.
  }

  end(): void {
    // The response ends by itself.
  }

  getHeader(name: string): ReturnType<ServerResponse['getHeader']> {
    return this.#res?.getHeader(name);
  }

  setHeader(name: string, value: number | string | readonly string[]): void {
    this.#res?.setHeader(name, value);
  }
}

export function secretsOf(
  { secret }: SessionSettings,
  deps: SessionDeps & { readonly isMemory: boolean },
): Secrets {
  if (secret !== undefined) return secret;
  if (!deps.isMemory) {
    throw new ConfigError(
      'kit.session: option `secret` is missing; give a long random string that all processes share, for example from process.env.SESSION_SECRET',
    );
  }
  deps.reporter.warning('kit.session has no `secret`; one was made up, which ends with this process');
  return [randomBytes(32).toString('base64url')];
}
