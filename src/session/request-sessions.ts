import type { IncomingMessage } from 'node:http';
import { performance } from 'node:perf_hooks';
import type expressSession from 'express-session';
import type { Deadline, RequestDeadlines } from '../engine/deadline.ts';
import { clientAddress } from '../http/client-address.ts';
import type { Req } from '../http/middleware.ts';
import type { ClientCookie, SessionCookie } from './client-cookie.ts';
import type { SessionMeta } from './payload.ts';
import type { SessionRecords, StoredSession } from './session-records.ts';

/** A longer User-Agent is cut, since the stored value is only shown to people. */
const MAX_USER_AGENT_LENGTH = 256;

/** The sessions that one request has loaded, generated, saved or destroyed. */
export class RequestSessions {
  readonly #req: Req;
  readonly #deadlines: RequestDeadlines;
  /** The deadline for the load before the handler and the save after it. */
  readonly deadline: Deadline;
  /** Undefined where no response can set a cookie, as with a WebSocket upgrade. */
  readonly cookie: ClientCookie | undefined;
  /** The session id with which the request began, also after the handler has regenerated the session. */
  originalId: string | undefined;
  /** The cookie of the session with which the request began, kept since the handler may replace the session. */
  originalCookie: SessionCookie | undefined;
  /** The session with which the request began, as it was loaded; undefined for a new session. */
  loaded: StoredSession | undefined;
  /** The stored sessions of this request, by id, as the request last loaded or saved them. */
  readonly stored: Map<string, StoredSession> = new Map();
  /** The ids that this request has generated. A generated id that was never saved needs no command to be destroyed. */
  readonly generatedIds: string[] = [];
  /** The ids of sessions that have ended and must not be saved again. */
  readonly endedIds: string[] = [];
  /** The id of the empty session after a logout, which is stored only if the handler writes data to the session. */
  loggedOutId: string | undefined;
  /** Whether the load before or the save after the handler has failed: then nothing is saved, and no cookie is sent. */
  isDetached = false;
  /** Pending while saves, destroys or logins are queued or running; undefined when all have ended. */
  pendingWrite: Promise<unknown> | undefined;
  /** When the idle deadline was last moved, by the clock of this process. */
  touchedAt: number = performance.now();

  constructor(req: Req, deadlines: RequestDeadlines, cookie: ClientCookie | undefined) {
    this.#req = req;
    this.#deadlines = deadlines;
    this.deadline = deadlines.of(req);
    this.cookie = cookie;
  }

  /** A new deadline for one call by the handler, such as `req.session.save()`. */
  newDeadline(): Deadline {
    return this.#deadlines.ofCall();
  }

  /** The client of this request, as the list of a user's sessions shows it. */
  device(): Pick<SessionMeta, 'ip' | 'userAgent'> {
    const { 'user-agent': userAgent } = this.#req.headers;
    return { ip: clientAddress(this.#req), userAgent: userAgent?.slice(0, MAX_USER_AGENT_LENGTH) };
  }

  /** Whether this id is the current session id of the request. */
  isCurrent(id: string): boolean {
    return this.#req.sessionID === id;
  }

  /** Notes a generated id. `genid` may return the id of an ended session again; then the new session can be saved. */
  noteGenerated(id: string): void {
    this.generatedIds.push(id);
    const at = this.endedIds.indexOf(id);
    if (at >= 0) this.endedIds.splice(at, 1);
  }

  /**
   * Clears the cookie in the client if this id is that of the current session. Called before the session is destroyed,
   * so that the client forgets the id even if the store fails.
   */
  clearCookie(id: string): void {
    // While a request is detached, its session in the store may still be alive, so its cookie is kept.
    if (this.isDetached || this.originalCookie === undefined || !this.isCurrent(id)) return;
    this.cookie?.clear(this.originalCookie);
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

/** The session store of one request. */
export interface RequestStore {
  readonly records: SessionRecords;
  readonly sessions: RequestSessions;
  loadSession(id: string, deadline: Deadline): Promise<expressSession.SessionData | null>;
  saveSession(id: string, session: object, deadline: Deadline): Promise<void>;
  destroySession(id: string, deadline: Deadline): Promise<void>;
  /** Puts a new, empty session on the request. */
  generate(req: Express.Request): void;
  createSession(req: Express.Request, data: expressSession.SessionData): unknown;
}

const stores = new WeakMap<IncomingMessage, RequestStore>();

export function setRequestStore(req: IncomingMessage, store: RequestStore): void {
  stores.set(req, store);
}

/** Undefined for a request that no `kit.session` has handled. */
export function requestStoreOf(req: IncomingMessage): RequestStore | undefined {
  return stores.get(req);
}
