import expressSession from 'express-session';
import { type Callback, callBack } from './callback.ts';
import { dataOf, payloadOf } from './content.ts';
import { forgetCookie, inheritSession, makeSession, type SessionView } from './kit-session.ts';
import type { SessionRecords } from './record.ts';
import { RequestSessions } from './request-sessions.ts';

/** What express-session makes a session of. */
type SessionData = expressSession.SessionData;

/**
 * The express-session store of one middleware. It has no `touch`: reading slides the expiry, and express-session
 * would send a second command for it.
 *
 * express-session knows one store for all requests. Each request gets a view of it (`forRequest`), which carries
 * the request's budget and knows which sessions were loaded.
 */
export class KitStore extends expressSession.Store {
  readonly records: SessionRecords;
  readonly request: RequestSessions | undefined;
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

  override get(id: string, callback: Callback<SessionData | null>): void {
    callBack(this.read(id), callback);
  }

  override set(id: string, session: SessionData, callback?: Callback): void {
    callBack(this.write(id, session), callback);
  }

  override destroy(id: string, callback?: Callback): void {
    if (this.request !== undefined) forgetCookie({ request: this.request });
    callBack(this.end(id), callback);
  }

  async read(id: string): Promise<SessionData | null> {
    const stored = await this.records.read(id, this.request?.budget);
    if (stored === undefined) return null;
    this.request?.stored.set(id, stored);
    return dataOf(stored);
  }

  async write(id: string, session: object): Promise<void> {
    // As it is now: the handler may go on changing it while it is written.
    const payload = payloadOf(session);
    const { records, request = new RequestSessions(undefined) } = this;
    await request.inTurn(async () => {
      if (request.isDetached || request.ended.includes(id)) return;
      const known = request.stored.get(id);
      const written =
        known === undefined
          ? await records.create(id, payload, request.budget)
          : await records.update(id, known, payload, request.budget);
      if (written === undefined) request.ended.push(id);
      else request.stored.set(id, written);
    });
  }

  async end(id: string): Promise<void> {
    const { records, request = new RequestSessions(undefined) } = this;
    await request.inTurn(async () => {
      if (request.isDetached || (request.made.includes(id) && !request.stored.has(id))) return;
      await records.destroy(id, request.stored.get(id), request.budget);
      request.stored.delete(id);
      // Who still holds the session and saves it must not bring it back.
      request.ended.push(id);
    });
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
