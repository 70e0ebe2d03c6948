import type { IncomingMessage } from 'node:http';
import expressSession from 'express-session';
import { RedisKitError } from '../base/errors.ts';
import type { Deadline } from '../engine/deadline.ts';
import { answer, type Callback, withoutResult } from './callback.ts';
import { dataOf, payloadOf } from './content.ts';
import { forgetCookie, giveView, inheritSession, makeSession, type SessionView } from './kit-session.ts';
import type { SessionPayload } from './payload.ts';
import type { SessionRecords, StoredSession } from './record.ts';
import type { RequestSessions } from './request-sessions.ts';

/** What express-session makes a session of. */
type SessionData = expressSession.SessionData;

/**
 * The express-session store of one middleware. It has no `touch`: reading slides the expiry, and express-session
 * would send a second command for it.
 *
 * express-session knows one store for all requests. Each request gets a view of it (`forRequest`), which knows the
 * request's deadline and which sessions were loaded.
 */
export class KitStore extends expressSession.Store {
  readonly records: SessionRecords;
  /** Of a view; express-session asks the store itself for nothing that needs it. */
  declare readonly request: RequestSessions;
  /** Given by express-session: puts a new, empty session on the request. */
  declare generate: (request: Express.Request) => void;
  readonly #View: new (
    request: RequestSessions,
  ) => KitStore & SessionView;

  constructor(records: SessionRecords) {
    super();
    this.records = records;
    this.#View = viewOf(this);
  }

  forRequest(request: RequestSessions): KitStore & SessionView {
    return new this.#View(request);
  }

  /** As express-session's own, with our methods. */
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
    const work = this.read(id, this.request.scope.newDeadline());
    return answer(work, callback, (error) => this.records.failed(error));
  }

  override set(id: string, session: SessionData, callback?: Callback<null>): Promise<unknown> {
    const work = this.write(id, session, this.request.scope.newDeadline());
    return answer(withoutResult(work), callback, (error) => this.records.failed(error));
  }

  override destroy(id: string, callback?: Callback<null>): Promise<unknown> {
    forgetCookie(this, id);
    const work = this.end(id, this.request.scope.newDeadline());
    return answer(withoutResult(work), callback, (error) => this.records.failed(error));
  }

  async read(id: string, deadline: Deadline): Promise<SessionData | null> {
    const stored = await this.records.read(id, deadline);
    if (stored === undefined) return null;
    this.request.stored.set(id, stored);
    return dataOf(stored);
  }

  async write(id: string, session: object, deadline: Deadline): Promise<void> {
    // As it is now: the handler may go on changing it while it is written.
    const payload = payloadOf(session);
    const { request } = this;
    await request.inTurn(async () => {
      if (request.isDetached || request.ended.includes(id)) return;
      if (isLost(this, id, session)) {
        request.ended.push(id);
        return;
      }
      const written = await save(this, id, payload, deadline);
      if (written === undefined) request.ended.push(id);
      else request.stored.set(id, written);
    });
  }

  async end(id: string, deadline: Deadline): Promise<void> {
    const { records, request } = this;
    await request.inTurn(async () => {
      if (request.isDetached || (request.made.includes(id) && !request.stored.has(id))) return;
      await records.destroy(id, request.stored.get(id), deadline);
      request.stored.delete(id);
      // A handler that still has the session and saves it must not bring it back.
      request.ended.push(id);
    });
  }
}

/** Whether it would be stored for nobody: the request's new session, whose cookie cannot leave. */
function isLost({ request }: Pick<SessionView, 'request'>, id: string, session: object): boolean {
  const { cookie, currentId } = request.scope;
  if (cookie === undefined || request.stored.has(id) || currentId() !== id) return false;
  return !cookie.canLeave((session as Partial<SessionData>).cookie ?? {});
}

async function save(
  { records, request }: Pick<SessionView, 'records' | 'request'>,
  id: string,
  payload: SessionPayload,
  deadline: Deadline,
): Promise<StoredSession | undefined> {
  const known = request.stored.get(id);
  const isNewUser = payload.userId !== undefined && payload.userId !== known?.userId;
  const meta = isNewUser ? { ...request.scope.facts(), ...payload.meta } : payload.meta;
  try {
    return known === undefined
      ? await records.create(id, { ...payload, meta }, deadline)
      : await records.update(id, known, { ...payload, meta }, deadline);
  } catch (error) {
    // The session has ended, and the handler may answer as it likes.
    if (error instanceof RedisKitError && error.code === 'ERR_REDIS_KIT_SESSION_LIMIT')
      request.ended.push(id);
    throw error;
  }
}

/** Makes a store's views: they inherit everything from it, and are made once for each request. */
function viewOf(store: KitStore): new (request: RequestSessions) => KitStore & SessionView {
  function View(this: { request: RequestSessions }, request: RequestSessions): void {
    this.request = request;
  }
  View.prototype = Object.create(store, {
    request: { value: undefined, writable: true },
    get: { value: KitStore.prototype.get },
    createSession: {
      value(
        this: KitStore & SessionView,
        req: IncomingMessage & Express.Request,
        data: SessionData,
      ): expressSession.Session & SessionData {
        // `Store.load` makes a session for a request of its own.
        giveView(req, this);
        return KitStore.prototype.createSession.call(this, req, data);
      },
    },
    generate: {
      value(this: SessionView, req: Express.Request): void {
        store.generate(req);
        inheritSession(req.session);
        this.request.begin(req.sessionID);
      },
    },
  });
  return View as unknown as new (
    request: RequestSessions,
  ) => KitStore & SessionView;
}
