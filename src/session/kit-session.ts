import type { IncomingMessage } from 'node:http';
import expressSession from 'express-session';
import { describe } from '../base/describe.ts';
import type { Duration } from '../base/duration.ts';
import { ConfigError, ConnectionError, StoreError } from '../base/errors.ts';
import { OptionReader } from '../base/option-reader.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Req } from '../http/middleware.ts';
import { type Callback, callBack } from './callback.ts';
import { payloadOf } from './content.ts';
import { userIdOf } from './payload.ts';
import type { SessionRecords, StoredSession } from './record.ts';
import type { RequestSessions } from './request-sessions.ts';

export interface LoginOptions {
  /** What the new session holds besides `userId`. */
  readonly data?: Readonly<Record<string, unknown>> | undefined;
  /**
   * Keeps the data of the session that ends, a cart for example; what `data` has replaces it. A session of another user
   * is not kept. Default false.
   */
  readonly keepData?: boolean | undefined;
  /** Keeps the cookie, and the session when it is not used, this long; default: until the browser ends, and `idle`. */
  readonly remember?: Duration | undefined;
}

declare module 'express-session' {
  interface SessionData {
    /** Whose session this is. A save that finds it changed brings the lists of `kit.sessions` in line. */
    userId?: string | undefined;
  }

  interface Session {
    /* express-session's own methods, which answer with a promise as well. */
    save(): Promise<void>;
    save(callback: (error?: unknown) => void): Promise<void>;
    reload(): Promise<void>;
    reload(callback: (error?: unknown) => void): Promise<void>;
    destroy(): Promise<void>;
    destroy(callback: (error?: unknown) => void): Promise<void>;
    regenerate(): Promise<void>;
    regenerate(callback: (error?: unknown) => void): Promise<void>;
    /**
     * Begins a new session, with a new id, for a user, in whose list `kit.sessions` shows it; the old one ends.
     * Rejects, and changes nothing, when the store cannot be reached, the user has too many sessions, or no cookie can
     * leave any more.
     */
    login(userId: string, options?: LoginOptions): Promise<void>;
    /** Ends the session, here and in the list of its user, and clears the cookie; `req.session` is empty then. */
    logout(): Promise<void>;
  }
}

/** A request's view of the store, as its session needs it. */
export interface SessionView {
  readonly records: SessionRecords;
  readonly request: RequestSessions;
  read(id: string, deadline: Deadline): Promise<expressSession.SessionData | null>;
  write(id: string, session: object, deadline: Deadline): Promise<void>;
  end(id: string, deadline: Deadline): Promise<void>;
  generate(req: Express.Request): void;
  createSession(req: Express.Request, data: expressSession.SessionData): unknown;
}

const views = new WeakMap<IncomingMessage, SessionView>();

export function giveView(req: IncomingMessage, view: SessionView): void {
  views.set(req, view);
}

/** Whether the store is known to have a request's session; undefined where kit.session has not seen the request. */
export function isKept(req: IncomingMessage, id: string): boolean | undefined {
  return views.get(req)?.request.stored.has(id);
}

type Session = expressSession.Session & { readonly req: Req };

/*
 * express-session's methods call back; ours do so as well, and return a promise. Who waits for neither must not be
 * ended by a rejection.
 */
const METHODS = {
  save(this: Session, callback?: Callback): Promise<void> {
    const view = viewOf(this);
    return told(this, view.write(this.id, this, view.request.scope.newDeadline()), callback);
  },

  reload(this: Session, callback?: Callback): Promise<void> {
    return told(this, reload(this), callback);
  },

  destroy(this: Session, callback?: Callback): Promise<void> {
    const view = viewOf(this);
    Reflect.deleteProperty(this.req, 'session');
    forgetCookie(view, this.id);
    return told(this, view.end(this.id, view.request.scope.newDeadline()), callback);
  },

  regenerate(this: Session, callback?: Callback): Promise<void> {
    return told(this, regenerate(this), callback);
  },

  login(this: Session, userId: string, options?: LoginOptions): Promise<void> {
    return told(this, login(this, userId, options), undefined);
  },

  logout(this: Session): Promise<void> {
    return told(this, logout(this), undefined);
  },
};

/** What `new` makes is a session with these methods; data under their names does not hide them. */
function KitSession(): void {
  // Only its prototype is used.
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

/** Gives a session that express-session has made our methods, in place of those that it has put on it. */
export function inheritSession(session: object): void {
  for (const name of ['save', 'reload']) {
    if (!Object.prototype.propertyIsEnumerable.call(session, name)) Reflect.deleteProperty(session, name);
  }
  if (Object.getPrototypeOf(session) !== KitSession.prototype) {
    Object.setPrototypeOf(session, KitSession.prototype);
  }
}

/** The names of methods that a handler has written data to, which would be lost with the request. */
export function hiddenMethods(session: object): readonly string[] {
  return ['touch', 'resetMaxAge', ...Object.keys(METHODS)].filter((name) => Object.hasOwn(session, name));
}

function viewOf(session: Session): SessionView {
  const view = views.get(session.req);
  if (view !== undefined) return view;
  throw new TypeError('this session belongs to no request that kit.session has seen');
}

/** Who waits for neither promise nor callback must not be ended by a rejection; but it is told. */
function told(session: Session, work: Promise<void>, callback: Callback | undefined): Promise<void> {
  if (typeof callback === 'function') callBack(work, callback);
  work.catch((error: unknown) => {
    // The caller's own mistakes are the caller's to hear of.
    const isTrouble = error instanceof StoreError || error instanceof ConnectionError;
    if (isTrouble) viewOf(session).records.failed(error);
  });
  return work;
}

async function reload(session: Session): Promise<void> {
  const view = viewOf(session);
  const data = await view.read(session.id, view.request.scope.newDeadline());
  if (data === null) throw new StoreError('ERR_REDIS_KIT_SESSION_GONE', 'the session has ended elsewhere');
  view.createSession(session.req, data);
}

async function regenerate(session: Session): Promise<void> {
  const view = viewOf(session);
  const { req } = session;
  try {
    await view.end(req.sessionID, view.request.scope.newDeadline());
  } finally {
    view.generate(req);
  }
}

async function login(session: Session, userId: string, options: LoginOptions = {}): Promise<void> {
  const request = checkLogin(userId, options);
  const view = viewOf(session);
  // In turn with saves and ends, so that a handler need not wait for one before the other, nor the response for it.
  await view.request.inTurn(() => beginFor(userId, session.req, view, request));
}

async function beginFor(
  userId: string,
  req: Req,
  view: SessionView,
  { data, isKeeping, rememberMs }: ReturnType<typeof checkLogin>,
): Promise<void> {
  const { records, request } = view;
  if (request.isDetached) {
    throw new ConnectionError('nobody can log in while the session store cannot be reached');
  }
  const { cookie } = request.scope;
  if (cookie === undefined || cookie.isTooLate) {
    const message =
      'req.session.login was called where no cookie can leave any more, so the client would never send its session';
    throw new StoreError('ERR_REDIS_KIT_LATE_SESSION', message);
  }
  const deadline = request.scope.newDeadline();
  const before = { session: req.session, sessionID: req.sessionID };
  const known = request.stored.get(before.sessionID);
  const previous = known === undefined ? undefined : { id: before.sessionID, known };
  view.generate(req);
  const id = req.sessionID;
  try {
    const kept = isKeeping ? dataFor(userId, before.session) : {};
    Object.assign(req.session, kept, data, { userId });
    if (rememberMs !== undefined) req.session.cookie.maxAge = records.rememberable(rememberMs);
    const facts = { ...request.scope.facts(), ...(rememberMs === undefined ? {} : { remembered: true }) };
    const payload = payloadOf(req.session, facts);
    cookie.keep();
    // Without its cookie the new session would be stored for nobody; the old one ends in any case.
    if (cookie.canLeave(req.session.cookie)) {
      const created = await records.create(id, payload, deadline, previous);
      if (created === undefined)
        throw new StoreError('ERR_REDIS_KIT_SESSION_CONFLICT', 'the id of the new session is taken');
      request.stored.set(id, created);
    }
    if (previous !== undefined) await endPrevious(view, previous, id, deadline);
  } catch (error) {
    Object.assign(req, before);
    throw error;
  }
}

/** What a user may take over from a session: nothing of another user's. */
function dataFor(userId: string, session: Req['session'] | null | undefined): object {
  if (!session) return {};
  const { cookie: _, userId: before, ...data } = session;
  return before === undefined || userIdOf(before) === userId ? data : {};
}

/** An old session that lived on would let in whoever knows its id: then the new one must not live either. */
async function endPrevious(
  { records, request }: SessionView,
  previous: { readonly id: string; readonly known: StoredSession },
  id: string,
  deadline: Deadline,
): Promise<void> {
  try {
    await records.destroy(previous.id, previous.known, deadline);
  } catch (error) {
    await records
      .destroy(id, request.stored.get(id), deadline)
      .catch((failed: unknown) => records.failed(failed));
    request.stored.delete(id);
    throw error;
  }
  request.stored.delete(previous.id);
  request.ended.push(previous.id);
  records.rotated(previous.id, id);
}

async function logout(session: Session): Promise<void> {
  const view = viewOf(session);
  const { req } = session;
  forgetCookie(view, session.id);
  await view.end(session.id, view.request.scope.newDeadline());
  view.generate(req);
  view.request.blank = req.sessionID;
}

/**
 * Clears the cookie in the client when it is the request's own session that ends. Called before the store is asked:
 * should that fail, at least the client has forgotten.
 */
export function forgetCookie({ request }: Pick<SessionView, 'request'>, id: string): void {
  const { isDetached, originalCookie, scope } = request;
  // A detached request has not loaded its session, which may live.
  if (isDetached || originalCookie === undefined || scope.currentId() !== id) return;
  scope.cookie?.clear(originalCookie);
}

/** What a session has besides its methods. */
const OWN_NAMES = ['cookie', 'id', 'req'];

function checkLogin(userId: unknown, options: LoginOptions) {
  if (typeof userId !== 'string' || userId === '') {
    throw new ConfigError(
      `req.session.login: the user's id is ${describe(userId)}; it must be a string that is not empty`,
    );
  }
  const reader = new OptionReader('req.session.login', options, ['data', 'keepData', 'remember']);
  const data = reader.value('data') ?? {};
  if (typeof data !== 'object' || Array.isArray(data)) throw reader.error('data', 'it must be an object');
  const taken = Object.keys(data).find(
    (name) => name in expressSession.Session.prototype || OWN_NAMES.includes(name) || name in METHODS,
  );
  if (taken !== undefined)
    throw reader.error('data', `a session has a \`${taken}\` of its own; take another name`);
  const isKeeping = reader.boolean('keepData', false);
  return { data, isKeeping, rememberMs: reader.duration('remember') };
}
