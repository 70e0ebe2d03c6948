import expressSession from 'express-session';
import { ConnectionError, StoreError } from '../base/errors.ts';
import type { Req } from '../http/middleware.ts';
import { type Callback, invokeCallback } from './callback.ts';
import { type LoginOptions, logIn, readLogin } from './login.ts';
import { type RequestSession, requestSessionOf } from './request-session.ts';
import { destroySession, loadSession, saveSession } from './session-writes.ts';

declare module 'express-session' {
  interface SessionData {
    /** The id of the session's user. A save with a `userId` adds the session to that user's list in `kit.sessions`. */
    userId?: string | undefined;
  }

  interface Session {
    /* express-session's own methods, which also return a promise in a session of the kit. */
    save(): Promise<void>;
    save(callback: (error?: unknown) => void): Promise<void>;
    reload(): Promise<void>;
    reload(callback: (error?: unknown) => void): Promise<void>;
    destroy(): Promise<void>;
    destroy(callback: (error?: unknown) => void): Promise<void>;
    regenerate(): Promise<void>;
    regenerate(callback: (error?: unknown) => void): Promise<void>;
    /**
     * Starts a new session with a new id for a user, and destroys the old session. `kit.sessions` lists the new
     * session. Rejects, and logs no user in, when the store is unavailable, the user has too many sessions, or the
     * response headers were sent. The old session remains, unless Redis destroys it after the deadline.
     */
    login(userId: string, options?: LoginOptions): Promise<void>;
    /** Destroys the session, removes it from its user's list, clears the cookie, and starts a new, empty session. */
    logout(): Promise<void>;
  }
}

type Session = expressSession.Session & { readonly req: Req };

const METHODS = {
  save(this: Session, callback?: Callback): Promise<void> {
    const request = requestOf(this);
    return withCallback(this, saveSession(request, this.id, this, request.newDeadline()), callback);
  },

  reload(this: Session, callback?: Callback): Promise<void> {
    return withCallback(this, reload(this), callback);
  },

  destroy(this: Session, callback?: Callback): Promise<void> {
    const request = requestOf(this);
    Reflect.deleteProperty(this.req, 'session');
    request.clearCookie(this.id);
    return withCallback(this, destroySession(request, this.id, request.newDeadline()), callback);
  },

  regenerate(this: Session, callback?: Callback): Promise<void> {
    return withCallback(this, regenerate(this), callback);
  },

  login(this: Session, userId: string, options?: LoginOptions): Promise<void> {
    return withCallback(this, login(this, userId, options));
  },

  logout(this: Session): Promise<void> {
    return withCallback(this, logout(this));
  },
};

/** The constructor of the kit's sessions. Its prototype has the methods, so that session data does not include them. */
function KitSession(
  this: Record<string, unknown>,
  req: Express.Request,
  data: Record<string, unknown>,
): void {
  Reflect.apply(expressSession.Session, this, [req]);
  // express-session copies data in the same way, several times slower in Node 20.
  for (const name of Object.keys(data)) if (!(name in this)) this[name] = data[name];
}
KitSession.prototype = Object.create(
  expressSession.Session.prototype,
  Object.fromEntries(
    Object.entries(METHODS).map(([name, value]) => [name, { value, configurable: true, writable: true }]),
  ),
);

export function makeSession(req: Express.Request, data: object = {}): expressSession.Session {
  return Reflect.construct(KitSession, [req, data]);
}

const METHOD_NAMES: readonly string[] = ['touch', 'resetMaxAge', ...Object.keys(METHODS)];

/** The names of methods that a handler has hidden with data of the same name. Such data is not stored. */
export function hiddenMethods(session: object): readonly string[] {
  return METHOD_NAMES.filter((name) => Object.hasOwn(session, name));
}

function requestOf(session: Session): RequestSession {
  const request = requestSessionOf(session.req);
  if (request !== undefined) return request;
  throw new TypeError('this session belongs to a request that no kit.session has handled');
}

/**
 * Passes the result to the callback and returns the promise. A rejection that the handler does not catch does not end
 * the process. Failures of the store are reported; other errors are mistakes of the caller, which the promise passes
 * on.
 */
function withCallback(session: Session, work: Promise<void>, callback?: Callback): Promise<void> {
  if (typeof callback === 'function') invokeCallback(work, callback);
  work.catch((error: unknown) => {
    const isStoreFailure = error instanceof StoreError || error instanceof ConnectionError;
    if (isStoreFailure) requestOf(session).parts.records.reportFailure(error);
  });
  return work;
}

async function reload(session: Session): Promise<void> {
  const request = requestOf(session);
  const { req } = session;
  const data = await loadSession(request, session.id, request.newDeadline());
  if (data === null) throw new StoreError('ERR_REDIS_KIT_SESSION_GONE', 'the session has ended elsewhere');
  req.session = request.createSession(req, data, data.cookie) as Req['session'];
}

async function regenerate(session: Session): Promise<void> {
  const request = requestOf(session);
  const { req } = session;
  try {
    await destroySession(request, req.sessionID, request.newDeadline());
  } finally {
    request.generate(req);
  }
}

async function login(session: Session, userId: string, options: LoginOptions = {}): Promise<void> {
  const read = readLogin(userId, options, METHODS);
  const request = requestOf(session);
  await request.enqueue(() => logIn(session.req, request, read));
}

async function logout(session: Session): Promise<void> {
  const request = requestOf(session);
  const { req } = session;
  request.clearCookie(session.id);
  await destroySession(request, session.id, request.newDeadline());
  request.generate(req);
  request.loggedOutId = req.sessionID;
}
