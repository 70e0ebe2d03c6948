import expressSession from 'express-session';
import { StoreError } from '../base/errors.ts';
import type { Req } from '../http/middleware.ts';
import type { SessionSettings } from './options.ts';
import type { SessionRecords } from './record.ts';
import { contentOf, type RequestSessions } from './store.ts';
import { asKeeper } from './watch.ts';

export interface CommitContext {
  readonly sessions: RequestSessions;
  readonly records: SessionRecords;
  readonly settings: SessionSettings;
  /** The id and the cookie with which the request began; another id later means that the session was regenerated. */
  readonly originalId: string;
  readonly originalCookie: expressSession.Cookie;
}

/**
 * Brings the store in line with `req.session`, before the headers leave and once more before the end. Undefined
 * when there is nothing to do. Rejects when the response must not go out as it is.
 */
export function commitSession(
  request: Req,
  context: CommitContext,
  hasBegun: boolean,
): undefined | Promise<void> {
  const { sessions } = context;
  // A handler need not wait for its save() or destroy(); what is left to do is known when they are through.
  if (sessions.underWay !== undefined) {
    return sessions.underWay.then(() => commitSession(request, context, hasBegun));
  }
  try {
    const work = asKeeper(() => change(request, context, hasBegun));
    return work?.catch((error: unknown) => settle(error, request, context, hasBegun));
  } catch (error) {
    // A session that JSON cannot hold.
    settle(error, request, context, hasBegun);
    return undefined;
  }
}

/** express-session sends its cookie only for a request that has a session id. */
export function dropCookie(request: Req): void {
  Object.assign(request, { sessionID: undefined });
}

function change(request: Req, context: CommitContext, hasBegun: boolean): undefined | Promise<void> {
  const { sessions, settings, originalCookie } = context;
  const session: Req['session'] | null | undefined = request.session;
  if (sessions.isDetached || (session && sessions.ended.has(session.id))) {
    dropCookie(request);
    return undefined;
  }
  if (session === null || session === undefined) {
    const id: unknown = request.sessionID;
    const isUnset = settings.unset === 'destroy' && typeof id === 'string' && sessions.stored.has(id);
    return isUnset ? destroy(request, id) : undefined;
  }
  repair(session, originalCookie);
  return isToBeSaved(session, context) ? save(request, session, context, hasBegun) : undefined;
}

/**
 * A handler may have copied a request's body into the session, `cookie` and `__proto__` with it: express-session would
 * send a cookie without its protections, or fail while the headers leave.
 */
function repair(session: Req['session'], cookie: expressSession.Cookie): void {
  if (!(session.cookie instanceof expressSession.Cookie)) session.cookie = cookie;
  if (!(session instanceof expressSession.Session)) {
    Object.setPrototypeOf(session, expressSession.Session.prototype);
  }
}

function isToBeSaved(session: Req['session'], { sessions, settings, originalId }: CommitContext): boolean {
  const content = contentOf(session);
  const stored = sessions.stored.get(session.id);
  if (stored !== undefined) return stored !== content;
  return settings.saveUninitialized || session.id !== originalId || content !== '{}';
}

function destroy(request: Req, id: string): Promise<void> {
  return new Promise((resolve, reject) => {
    request.sessionStore.destroy(id, (error?: unknown) => (error ? reject(error) : resolve()));
  });
}

async function save(
  request: Req,
  session: Req['session'],
  context: CommitContext,
  hasBegun: boolean,
): Promise<void> {
  const { sessions, records } = context;
  const isNew = !sessions.stored.has(session.id);
  await new Promise<void>((resolve, reject) => {
    request.sessionStore.set(session.id, session, (error?: unknown) => (error ? reject(error) : resolve()));
  });
  if (sessions.ended.has(session.id)) {
    dropCookie(request);
  } else if (isNew && hasBegun) {
    // Its cookie should have left with the headers.
    records.failed(
      new StoreError(
        'ERR_REDIS_KIT_LATE_SESSION',
        'a session was begun after the headers had left, so its client will never send it; write to req.session before the first write',
      ),
    );
  }
}

/** Applies the failure policy to a commit that failed. */
function settle(error: unknown, request: Req, context: CommitContext, hasBegun: boolean): void {
  context.records.failed(error);
  context.sessions.isDetached = true;
  dropCookie(request);
  if (context.settings.onError === 'error' && !hasBegun) throw error;
}
