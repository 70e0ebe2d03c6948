import type { ServerResponse } from 'node:http';
import { performance } from 'node:perf_hooks';
import expressSession from 'express-session';
import type { Deadline, RequestDeadlines } from '../engine/deadline.ts';
import { clientAddress } from '../http/client-address.ts';
import { withoutIdentityWatch } from '../http/identity/identity-watch.ts';
import type { Req } from '../http/middleware.ts';
import { ClientCookie, type SessionCookie } from './client-cookie.ts';
import { type CookieLifetime, renewedCookie } from './cookie-lifetime.ts';
import type { SessionSettings } from './options.ts';
import type { SessionMeta } from './payload.ts';
import { propertiesOf, type SessionProperties } from './request-properties.ts';
import type { SessionRecords, StoredSession, UnparsedSession } from './session-records.ts';
import type { SignedCookies } from './signed-cookie.ts';

/** The parts of one session middleware, which all of its requests share. */
export interface SessionParts {
  readonly settings: SessionSettings;
  readonly records: SessionRecords;
  readonly cookies: SignedCookies;
  readonly deadlines: RequestDeadlines;
  /** Generates a session id; throws for an invalid result of the option `genid`. */
  newId(req: Req): string;
  /** Creates the cookie of a new session. */
  newCookie(req: Req): expressSession.Cookie;
  /** Creates a session object without putting it on the request. */
  makeSession(req: Express.Request, data?: object): expressSession.Session;
  /** Creates the value of `req.sessionStore`. */
  makeStore(request: RequestSession): expressSession.Store;
}

/** In place of the session of a request, if its handler has neither read nor assigned `req.session`. */
export const UNTOUCHED: unique symbol = Symbol('a session that was not used');

/** A longer User-Agent is cut, since the stored value is only shown to people. */
const MAX_USER_AGENT_LENGTH = 256;

/**
 * The session of one request, and all that the request has loaded, generated, saved or destroyed. The session object is
 * created when `req.session` is first read.
 */
export class RequestSession implements SessionProperties {
  readonly parts: SessionParts;
  readonly req: Req;
  /** Undefined for a request without a response, such as a WebSocket upgrade. */
  readonly res: ServerResponse | undefined;
  /** The session in the store with which the request began; undefined for a new session. */
  readonly #record: UnparsedSession | undefined;
  /** The id of that session, which the client has sent. */
  readonly cookieId: string | undefined;
  #isTouched = false;
  #isPeeking = false;
  #session: unknown;
  #sessionId: unknown;
  #store: expressSession.Store | undefined;
  #clientCookie: ClientCookie | undefined;
  #stored: Map<string, StoredSession> | undefined;
  #generated: (CookieLifetime & { readonly id: string })[] | undefined;
  #endedIds: string[] | undefined;
  /** The session id with which the request began, also after the handler has regenerated the session. */
  originalId: string | undefined;
  /** The cookie of the session with which the request began, kept since the handler may replace the session. */
  originalCookie: SessionCookie | undefined;
  /** The session with which the request began, as it was loaded; undefined for a new session. */
  loaded: StoredSession | undefined;
  /** The id of the empty session after a logout, which is stored only if the handler writes data to the session. */
  loggedOutId: string | undefined;
  /** Whether the load before or the save after the handler has failed: then nothing is saved, and no cookie is sent. */
  isDetached = false;
  isCookieDropped = false;
  /** Pending while saves, destroys or logins are queued or running; undefined when all have ended. */
  pendingWrite: Promise<unknown> | undefined;
  /** When the idle deadline was last moved, by the clock of this process. */
  touchedAt = 0;

  constructor(
    parts: SessionParts,
    { req, res }: { readonly req: Req; readonly res: ServerResponse | undefined },
    cookieId?: string,
    record?: UnparsedSession,
  ) {
    this.parts = parts;
    this.req = req;
    this.res = res;
    this.#record = record;
    if (record === undefined) return;
    this.cookieId = cookieId;
    this.#sessionId = cookieId;
    this.touchedAt = performance.now();
  }

  /** Whether the request began without a session in the store. */
  get isNew(): boolean {
    return this.#record === undefined;
  }

  /** Whether another session middleware has handled the request since, after the session of this one was destroyed. */
  get isReplaced(): boolean {
    return propertiesOf(this.req) !== this;
  }

  /** The deadline for the load before the handler and the save after it. */
  get deadline(): Deadline {
    return this.parts.deadlines.of(this.req);
  }

  /** A new deadline for one call by the handler, such as `req.session.save()`. */
  newDeadline(): Deadline {
    return this.parts.deadlines.ofCall();
  }

  /** The value of `req.session`, unless the app has redefined the property. */
  get session(): unknown {
    if (!this.#isTouched) {
      if (this.#isPeeking) return UNTOUCHED;
      this.#begin();
    }
    return this.#session;
  }

  set session(session: unknown) {
    if (!this.#isTouched) this.#begin();
    this.#session = session;
  }

  /** The value of `req.sessionID`. A handler may assign anything. */
  get sessionID(): unknown {
    if (!this.#isTouched && this.#record === undefined) this.#begin();
    return this.#sessionId;
  }

  set sessionID(id: unknown) {
    if (!this.#isTouched) this.#begin();
    this.#sessionId = id;
  }

  /** The value of `req.sessionStore`. */
  get sessionStore(): unknown {
    this.#store ??= this.parts.makeStore(this);
    return this.#store;
  }

  set sessionStore(store: unknown) {
    this.#store = store as expressSession.Store;
  }

  /** Reads `req.session` without creating the session object, and not as a read of the handler. */
  peek(): unknown {
    this.#isPeeking = true;
    try {
      return withoutIdentityWatch(() => this.req.session as unknown);
    } finally {
      this.#isPeeking = false;
    }
  }

  /** The session id of the request; undefined when a handler has assigned something else. */
  get id(): string | undefined {
    const id = this.sessionID;
    return typeof id === 'string' ? id : undefined;
  }

  /** Creates the session object, as a read of `req.session` does. */
  touch(): void {
    if (!this.#isTouched) this.#begin();
  }

  #begin(): void {
    this.#isTouched = true;
    const stored = this.#record?.parse();
    if (stored === undefined || this.cookieId === undefined) {
      this.generate();
      this.originalId = this.id;
    } else {
      this.loaded = stored;
      this.originalId = this.cookieId;
      this.stored.set(this.cookieId, stored);
      this.#session = this.createSession(this.req, stored.content.values, renewedCookie(stored.meta.cookie));
    }
    this.originalCookie = (this.#session as expressSession.Session).cookie as SessionCookie;
  }

  /** Puts a new, empty session on the request, or on an object in place of a request (see `RequestStore`). */
  generate(req: Req = this.req): void {
    const { parts } = this;
    const id = parts.newId(req);
    req.sessionID = id;
    const session = parts.makeSession(req);
    session.cookie = parts.newCookie(req);
    req.session = session as Req['session'];
    this.#generated ??= [];
    this.#generated.push({ id, originalMaxAge: session.cookie.originalMaxAge });
    // `genid` may return the id of an ended session again; then the new session can be saved.
    const at = this.#endedIds?.indexOf(id) ?? -1;
    if (at >= 0) this.#endedIds?.splice(at, 1);
  }

  /** Creates the session object of loaded data. */
  createSession(req: Express.Request, data: object, cookie: object): expressSession.Session {
    const { expires, originalMaxAge } = cookie as Partial<expressSession.Cookie>;
    const session = this.parts.makeSession(req, data);
    session.cookie = Reflect.construct(expressSession.Cookie, [cookie]);
    if (typeof expires === 'string') session.cookie.expires = new Date(expires);
    session.cookie.originalMaxAge = originalMaxAge ?? null;
    return session;
  }

  /** Undefined where no response can set a cookie, as with a WebSocket upgrade. */
  get clientCookie(): ClientCookie | undefined {
    const { req, res, parts } = this;
    if (res === undefined) return undefined;
    this.#clientCookie ??= new ClientCookie(req, res, parts.cookies, {
      proxy: parts.settings.proxy,
      warn: (message) => parts.records.warn(message),
    });
    return this.#clientCookie;
  }

  /**
   * Clears the cookie in the client if this id is that of the current session. Called before the session is destroyed,
   * so that the client forgets the id even if the store fails.
   */
  clearCookie(id: string): void {
    this.touch();
    // While a request is detached, its session in the store may still be alive, so its cookie is kept.
    if (this.isDetached || this.originalCookie === undefined || this.id !== id) return;
    this.clientCookie?.clear(this.originalCookie);
  }

  /** Prevents a cookie: only a request that has a session id gets one. */
  dropCookie(): undefined {
    this.sessionID = undefined;
    this.isCookieDropped = true;
  }

  /** The client of this request, as the list of a user's sessions shows it. */
  device(): Pick<SessionMeta, 'ip' | 'userAgent'> {
    const { 'user-agent': userAgent } = this.req.headers;
    return { ip: clientAddress(this.req), userAgent: userAgent?.slice(0, MAX_USER_AGENT_LENGTH) };
  }

  /** The stored sessions of this request, by id, as the request last loaded or saved them. */
  get stored(): Map<string, StoredSession> {
    this.touch();
    this.#stored ??= new Map();
    return this.#stored;
  }

  /** Whether this request has generated the id. A generated id that was never saved needs no command to be destroyed. */
  hasGenerated(id: string): boolean {
    return this.generatedCookie(id) !== undefined;
  }

  /** The lifetime that the cookie of a generated session had at first; undefined for any other id. */
  generatedCookie(id: string): CookieLifetime | undefined {
    return this.#generated?.findLast((session) => session.id === id);
  }

  /** Notes that the session of an id has ended and must not be saved again. */
  end(id: string): void {
    this.#endedIds ??= [];
    this.#endedIds.push(id);
  }

  hasEnded(id: string): boolean {
    return this.#endedIds?.includes(id) === true;
  }

  /** Whether half of the idle time has passed since the idle deadline was last moved, as in a long request. */
  isTouchDue(id: string | undefined): boolean {
    const idle = this.#idleOf(id);
    return idle !== undefined && performance.now() - this.touchedAt > idle / 2;
  }

  #idleOf(id: string | undefined): number | undefined {
    if (!this.#isTouched) return this.#record?.idle;
    const stored = id === undefined ? undefined : this.#stored?.get(id);
    return stored && this.parts.records.idleOf(stored.meta);
  }

  /** Runs saves, destroys and logins one after another, in the order of the calls: a handler need not await them. */
  enqueue<Result>(write: () => Promise<Result>): Promise<Result> {
    const result = this.pendingWrite === undefined ? write() : this.pendingWrite.then(write);
    const settled: Promise<unknown> = Promise.allSettled([result]).then(() => {
      if (this.pendingWrite === settled) this.pendingWrite = undefined;
    });
    this.pendingWrite = settled;
    return result;
  }
}

/** Undefined for a request that no `kit.session` has handled. */
export function requestSessionOf(req: object): RequestSession | undefined {
  const properties = propertiesOf(req);
  return properties instanceof RequestSession ? properties : undefined;
}
