import expressSession from 'express-session';
import type { Req } from '../http/middleware.ts';
import { type Callback, promiseOrCallback, resolveToNull } from './callback.ts';
import { setPropertiesOf } from './request-properties.ts';
import type { RequestSession } from './request-session.ts';
import { destroySession, loadSession, saveSession } from './session-writes.ts';

type SessionData = expressSession.SessionData;

/**
 * The express-session store of one request, as `req.sessionStore`. express-session has one store for all requests, but
 * each request needs its own deadline and its own loaded sessions.
 *
 * The store has no `touch` method, since a load moves the expiry.
 */
export class RequestStore extends expressSession.Store {
  readonly #request: RequestSession;

  constructor(request: RequestSession) {
    super();
    this.#request = request;
  }

  /** Puts a new session on a request. */
  generate(req: Express.Request): void {
    this.#request.generate(req as Req);
  }

  override createSession(req: Express.Request, data: SessionData): expressSession.Session & SessionData {
    const request = this.#request;
    // express-session's `Store.load` passes an object in place of a request.
    if (req !== request.req) setPropertiesOf(req, request);
    const session = request.createSession(req, data, data.cookie);
    req.session = session as Req['session'];
    return req.session;
  }

  override get(id: string, callback?: Callback<SessionData | null>): Promise<unknown> {
    const request = this.#request;
    const work = loadSession(request, id, request.newDeadline());
    return promiseOrCallback(work, callback, (error) => this.#reportFailure(error));
  }

  override set(id: string, session: SessionData, callback?: Callback<null>): Promise<unknown> {
    const request = this.#request;
    const work = saveSession(request, id, session, request.newDeadline());
    return promiseOrCallback(resolveToNull(work), callback, (error) => this.#reportFailure(error));
  }

  override destroy(id: string, callback?: Callback<null>): Promise<unknown> {
    const request = this.#request;
    request.clearCookie(id);
    const work = destroySession(request, id, request.newDeadline());
    return promiseOrCallback(resolveToNull(work), callback, (error) => this.#reportFailure(error));
  }

  #reportFailure(error: unknown): void {
    this.#request.parts.records.reportFailure(error);
  }
}
