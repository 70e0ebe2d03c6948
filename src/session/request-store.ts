import type { IncomingMessage } from 'node:http';
import type expressSession from 'express-session';
import type { Deadline } from '../engine/deadline.ts';
import type { RequestSessions } from './request-sessions.ts';
import type { SessionRecords } from './session-records.ts';

/** The session store as one request uses it. */
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
