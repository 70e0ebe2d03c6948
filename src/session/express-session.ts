import { type KeyObject, randomBytes } from 'node:crypto';
import expressSession from 'express-session';
import { describe } from '../base/check.ts';
import { ConfigError } from '../base/errors.ts';
import type { Next, Req, Res } from '../http/middleware.ts';
import { callBack } from './callback.ts';
import type { SessionSettings } from './options.ts';
import type { KitStore } from './store.ts';
import type { SessionDeps } from './user-index.ts';

/** Loads the session of a request, with the store view of that request. */
export type Load = (req: Req, res: Res, view: KitStore, loaded: Next) => void;

type ExpressCookie = Exclude<expressSession.SessionOptions['cookie'], undefined>;

/** express-session, without its own way to save and with a store of its own for each request. */
export function sessionLoader(
  settings: SessionSettings,
  store: KitStore,
  deps: SessionDeps & { readonly isMemory: boolean },
): Load {
  const { name, cookie, rolling, saveUninitialized, unset, genid, proxy } = settings;
  // express-session reads through this property during its synchronous part.
  let reading = store;
  store.get = (id, callback) => {
    const work = reading.read(id, reading.request.scope.budget);
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
    secret: secretOf(settings, deps),
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

  return function load(req, res, view, loaded) {
    const { end } = res;
    let isLoaded = false;
    reading = view;
    try {
      handle(req, res, (error) => {
        // Its own end would send the head before it saves; ours has saved before anything leaves. It calls again
        // when a cookie cannot be written.
        if (!isLoaded) res.end = end;
        isLoaded = true;
        loaded(error);
      });
    } finally {
      reading = store;
    }
  };
}

function secretOf(
  settings: SessionSettings,
  deps: SessionDeps & { readonly isMemory: boolean },
): (string | KeyObject)[] {
  if (settings.secret !== undefined) return [...settings.secret];
  if (!deps.isMemory) {
    throw new ConfigError(
      'kit.session: option `secret` is missing; give a long random string that all processes share, for example from process.env.SESSION_SECRET',
    );
  }
  deps.reporter.warning('kit.session has no `secret`; one was made up, which ends with this process');
  return [randomBytes(32).toString('base64url')];
}
