import type { IncomingMessage } from 'node:http';
import expressSession from 'express-session';
import { RedisKitError } from '../base/errors.ts';
import type { Deadline } from '../engine/deadline.ts';
import { type Callback, promiseOrCallback, resolveToNull } from './callback.ts';
import { dataOf, payloadOf, type SessionPayload } from './payload.ts';
import { type RequestSessions, type RequestStore, setRequestStore } from './request-sessions.ts';
import { inheritMethods, makeSession } from './session-methods.ts';
import type { SessionRecords, StoredSession } from './session-records.ts';

type SessionData = expressSession.SessionData;

/**
 * The express-session store of one middleware. express-session has one store for all requests, but each request needs
 * its own deadline and its own loaded sessions, so `forRequest` returns a view of the store.
 *
 * The store has no `touch` method: a load moves the expiry, and express-session would send a second command to touch.
 */
export class MiddlewareStore extends expressSession.Store implements RequestStore {
  readonly records: SessionRecords;
  /** Only set on views. express-session calls no method of the shared store that needs `sessions`. */
  declare sessions: RequestSessions;
  /** Puts a new session on a request. Assigned by express-session. */
  declare generate: (request: Express.Request) => void;
  readonly #viewPrototype: object;

  constructor(records: SessionRecords) {
    super();
    this.records = records;
    this.#viewPrototype = viewPrototypeOf(this);
  }

  forRequest(sessions: RequestSessions): MiddlewareStore {
    const view: MiddlewareStore = Object.create(this.#viewPrototype);
    view.sessions = sessions;
    return view;
  }

  /** Like the method of express-session's `Store`, but creates a session with the kit's methods. */
  override createSession(req: Express.Request, data: SessionData): expressSession.Session & SessionData {
    const { expires, originalMaxAge } = data.cookie;
    const session = makeSession(req, data) as expressSession.Session & SessionData;
    session.cookie = Reflect.construct(expressSession.Cookie, [data.cookie]);
    if (typeof expires === 'string') session.cookie.expires = new Date(expires);
    session.cookie.originalMaxAge = originalMaxAge;
    req.session = session;
    return session;
  }

  override get(id: string, callback?: Callback<SessionData | null>): Promise<unknown> {
    const work = this.loadSession(id, this.sessions.newDeadline());
    return promiseOrCallback(work, callback, (error) => this.records.reportFailure(error));
  }

  override set(id: string, session: SessionData, callback?: Callback<null>): Promise<unknown> {
    const work = this.saveSession(id, session, this.sessions.newDeadline());
    return promiseOrCallback(resolveToNull(work), callback, (error) => this.records.reportFailure(error));
  }

  override destroy(id: string, callback?: Callback<null>): Promise<unknown> {
    this.sessions.clearCookie(id);
    const work = this.destroySession(id, this.sessions.newDeadline());
    return promiseOrCallback(resolveToNull(work), callback, (error) => this.records.reportFailure(error));
  }

  async loadSession(id: string, deadline: Deadline): Promise<SessionData | null> {
    const stored = await this.records.load(id, deadline);
    if (stored === undefined) return null;
    this.sessions.stored.set(id, stored);
    return dataOf(stored);
  }

  async saveSession(id: string, session: object, deadline: Deadline): Promise<void> {
    // Computed before the save waits in the queue, since the handler may change the session meanwhile.
    const payload = payloadOf(session);
    const { sessions } = this;
    await sessions.enqueue(async () => {
      if (sessions.isDetached || sessions.endedIds.includes(id)) return;
      if (isUnreachable(sessions, id, session)) {
        sessions.endedIds.push(id);
        return;
      }
      const saved = await save(this, id, payload, deadline);
      if (saved === undefined) sessions.endedIds.push(id);
      else sessions.stored.set(id, saved);
    });
  }

  async destroySession(id: string, deadline: Deadline): Promise<void> {
    const { records, sessions } = this;
    await sessions.enqueue(async () => {
      if (sessions.isDetached || (sessions.generatedIds.includes(id) && !sessions.stored.has(id))) return;
      await records.destroy(id, sessions.stored.get(id), deadline);
      sessions.stored.delete(id);
      // A later save by the handler must not store the destroyed session again.
      sessions.endedIds.push(id);
    });
  }
}

/** Whether no client will ever send the id: the session is new and its cookie cannot be sent. */
function isUnreachable(sessions: RequestSessions, id: string, session: object): boolean {
  const { cookie, stored } = sessions;
  if (cookie === undefined || stored.has(id) || !sessions.isCurrent(id)) return false;
  return !cookie.canBeSent((session as Partial<SessionData>).cookie ?? {});
}

async function save(
  { records, sessions }: RequestStore,
  id: string,
  payload: SessionPayload,
  deadline: Deadline,
): Promise<StoredSession | undefined> {
  const stored = sessions.stored.get(id);
  const isNewUser = payload.userId !== undefined && payload.userId !== stored?.userId;
  const meta = isNewUser ? { ...sessions.device(), ...payload.meta } : payload.meta;
  try {
    return stored === undefined
      ? await records.create(id, { ...payload, meta }, deadline)
      : await records.update(id, stored, { ...payload, meta }, deadline);
  } catch (error) {
    // `UserIndex.admit` has destroyed the session, since its user has too many sessions.
    if (error instanceof RedisKitError && error.code === 'ERR_REDIS_KIT_SESSION_LIMIT')
      sessions.endedIds.push(id);
    throw error;
  }
}

/** The prototype of the views. It overrides three methods; views inherit everything else from the shared store. */
function viewPrototypeOf(store: MiddlewareStore): object {
  return Object.create(store, {
    // Undoes the `get` that `sessionLoader` assigns to the shared store.
    get: { value: MiddlewareStore.prototype.get },
    createSession: {
      value(this: MiddlewareStore, req: IncomingMessage & Express.Request, data: SessionData): object {
        // express-session's `Store.load` creates the session with a new request object, which has no store yet.
        setRequestStore(req, this);
        return MiddlewareStore.prototype.createSession.call(this, req, data);
      },
    },
    generate: {
      value(this: MiddlewareStore, req: Express.Request): void {
        store.generate(req);
        inheritMethods(req.session);
        this.sessions.noteGenerated(req.sessionID);
      },
    },
  });
}
