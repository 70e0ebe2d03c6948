import expressSession from 'express-session';
import { ConnectionError, StoreError } from '../base/errors.ts';
import type { Req } from '../http/middleware.ts';
import { type Callback, invokeCallback } from './callback.ts';
import { type LoginOptions, logIn, readLogin } from './login.ts';
import { type RequestStore, requestStoreOf } from './request-sessions.ts';

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
     * session. Rejects, and changes nothing, when the store is unavailable, the user has too many sessions, or the
     * response headers were sent.
     */
    login(userId: string, options?: LoginOptions): Promise<void>;
    /** Destroys the session, removes it from its user's list, clears the cookie, and starts a new, empty session. */
    logout(): Promise<void>;
  }
}

type Session = expressSession.Session & { readonly req: Req };

const METHODS = {
  save(this: Session, callback?: Callback): Promise<void> {
    const store = storeOf(this);
    return withCallback(this, store.saveSession(this.id, this, store.sessions.newDeadline()), callback);
  },

  reload(this: Session, callback?: Callback): Promise<void> {
    return withCallback(this, reload(this), callback);
  },

  destroy(this: Session, callback?: Callback): Promise<void> {
    const store = storeOf(this);
    Reflect.deleteProperty(this.req, 'session');
    store.sessions.clearCookie(this.id);
    return withCallback(this, store.destroySession(this.id, store.sessions.newDeadline()), callback);
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
function KitSession(): void {
  // Never called: only the prototype is used.
}
KitSession.prototype = Object.create(
  expressSession.Session.prototype,
  Object.fromEntries(
    Object.entries(METHODS).map(([name, value]) => [name, { value, configurable: true, writable: true }]),
  ),
);

export function makeSession(req: Express.Request, data: expressSession.SessionData): expressSession.Session {
  return Reflect.construct(expressSession.Session, [req, data], KitSession);
}

/** Gives the kit's methods to a session that express-session has created. */
export function inheritMethods(session: object): void {
  for (const name of ['save', 'reload']) {
    if (!Object.prototype.propertyIsEnumerable.call(session, name)) Reflect.deleteProperty(session, name);
  }
  if (Object.getPrototypeOf(session) !== KitSession.prototype) {
    Object.setPrototypeOf(session, KitSession.prototype);
  }
}

/** The names of methods that a handler has hidden with data of the same name. Such data is not stored. */
export function hiddenMethods(session: object): readonly string[] {
  return ['touch', 'resetMaxAge', ...Object.keys(METHODS)].filter((name) => Object.hasOwn(session, name));
}

function storeOf(session: Session): RequestStore {
  const store = requestStoreOf(session.req);
  if (store !== undefined) return store;
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
    if (isStoreFailure) storeOf(session).records.reportFailure(error);
  });
  return work;
}

async function reload(session: Session): Promise<void> {
  const store = storeOf(session);
  const data = await store.loadSession(session.id, store.sessions.newDeadline());
  if (data === null) throw new StoreError('ERR_REDIS_KIT_SESSION_GONE', 'the session has ended elsewhere');
  store.createSession(session.req, data);
}

async function regenerate(session: Session): Promise<void> {
  const store = storeOf(session);
  const { req } = session;
  try {
    await store.destroySession(req.sessionID, store.sessions.newDeadline());
  } finally {
    store.generate(req);
  }
}

async function login(session: Session, userId: string, options: LoginOptions = {}): Promise<void> {
  const read = readLogin(userId, options, METHODS);
  const store = storeOf(session);
  await store.sessions.enqueue(() => logIn(session.req, store, read));
}

async function logout(session: Session): Promise<void> {
  const store = storeOf(session);
  const { req } = session;
  store.sessions.clearCookie(session.id);
  await store.destroySession(session.id, store.sessions.newDeadline());
  store.generate(req);
  store.sessions.loggedOutId = req.sessionID;
}
