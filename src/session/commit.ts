import { performance } from 'node:perf_hooks';
import expressSession from 'express-session';
import { describe } from '../base/describe.ts';
import { RedisKitError, StoreError } from '../base/errors.ts';
import { withoutIdentityWatch } from '../http/identity/identity-watch.ts';
import type { Req } from '../http/middleware.ts';
import type { SessionCookie } from './client-cookie.ts';
import { hasOtherMaxAge } from './cookie-lifetime.ts';
import type { SessionSettings } from './options.ts';
import { contentOf, dataError } from './payload.ts';
import type { RequestStore } from './request-sessions.ts';
import { hiddenMethods, makeSession } from './session-methods.ts';

/** A commit of the session of one request. */
interface Commit {
  readonly request: Req;
  readonly store: RequestStore;
  readonly settings: SessionSettings;
  /** Whether the response headers were sent. */
  readonly hasBegun: boolean;
}

/**
 * Saves, touches or destroys `req.session` in the store, before the response headers are sent and again before the end.
 * Returns undefined when the store needs no command. Rejects or throws when an error must replace the response.
 */
export function commitSession(commit: Commit): undefined | Promise<void> {
  const { sessions } = commit.store;
  try {
    if (!commit.hasBegun) withoutIdentityWatch(() => sendNewMaxAge(commit));
    // A handler need not await save() or destroy(), and their results decide whether the session still must be saved.
    if (sessions.pendingWrite !== undefined) {
      return sessions.pendingWrite.then(() => commitSession(commit));
    }
    const work = withoutIdentityWatch(() => writeSession(commit));
    return work?.catch((error: unknown) => applyFailurePolicy(error, commit));
  } catch (error) {
    // The session has data that JSON cannot represent.
    applyFailurePolicy(error, commit);
    return undefined;
  }
}

/** Prevents the cookie: express-session sets a cookie only for a request that has a session id. */
export function dropCookie(request: Req): undefined {
  Object.assign(request, { sessionID: undefined });
}

function writeSession(commit: Commit): undefined | Promise<void> {
  const { request, store } = commit;
  const { sessions, records } = store;
  if (sessions.isDetached) return dropCookie(request);
  const session = sessionOf(commit);
  if (session === undefined) return destroyUnset(commit);
  if (sessions.endedIds.includes(session.id)) return dropCookie(request);
  repair(session, store);
  const content = contentOf(session);
  if (session.id === sessions.loggedOutId && content === '{}') return dropCookie(request);
  if (mustBeSaved(session, content, commit)) return save(session, commit);
  if (!isTouchDue(session.id, store)) return undefined;
  sessions.touchedAt = performance.now();
  return records.touch(session.id, sessions.deadline).catch((error: unknown) => records.reportFailure(error));
}

/** Handles an unset session (`req.session = null`): destroys the stored session with `unset: 'destroy'`. */
function destroyUnset({ request, store, settings }: Commit): undefined | Promise<void> {
  const { sessions } = store;
  const id: unknown = request.sessionID;
  if (settings.unset !== 'destroy' || typeof id !== 'string' || !sessions.stored.has(id)) return undefined;
  sessions.clearCookie(id);
  return store.destroySession(id, sessions.deadline);
}

/** Sends the cookie again if its `maxAge` has changed and express-session would not send the cookie. */
function sendNewMaxAge({ request, store, settings }: Commit): void {
  const { loaded, stored, cookie: clientCookie } = store.sessions;
  const session: Req['session'] | undefined = request.session;
  if (loaded === undefined || clientCookie === undefined || !session?.cookie) return;
  const { cookie, id } = session;
  if (id !== request.sessionID || !stored.has(id) || !hasOtherMaxAge(cookie, loaded.meta.cookie)) return;
  const isSent = settings.rolling || (cookie.expires && contentOf(session) !== loaded.content);
  if (!isSent) clientCookie.resend(cookie as SessionCookie, id);
}

/** The session of the request. A plain object that a handler assigned to `req.session` becomes the session's data. */
function sessionOf({ request, store }: Commit): Req['session'] | undefined {
  const session: unknown = request.session;
  if (!session) return undefined;
  if (session instanceof expressSession.Session) return session as Req['session'];
  if (typeof session !== 'object' || Array.isArray(session)) {
    throw new TypeError(`req.session is ${describe(session)}; it must be an object`);
  }
  if (store.sessions.endedIds.includes(request.sessionID)) store.generate(request);
  const data = { cookie: store.sessions.originalCookie, ...session } as expressSession.SessionData;
  request.session = makeSession(request, data) as Req['session'];
  return request.session;
}

/**
 * Restores the cookie and the methods of a session. A handler may have copied a request body with a `cookie` or the
 * name of a method into the session. From such a cookie, express-session would set an unprotected cookie, or throw
 * while the headers are sent.
 */
function repair(session: Req['session'], { sessions, records }: RequestStore): void {
  const { originalCookie } = sessions;
  if (!(session.cookie instanceof expressSession.Cookie) && originalCookie !== undefined) {
    session.cookie = originalCookie;
  }
  for (const name of hiddenMethods(session)) {
    records.warn(
      `req.session.${name} is a method of every session, so data under this name is not kept; take another name`,
    );
    Reflect.deleteProperty(session, name);
  }
}

function mustBeSaved({ id, cookie }: Req['session'], content: string, { store, settings }: Commit): boolean {
  const { stored, originalId } = store.sessions;
  const before = stored.get(id);
  if (before !== undefined) return before.content !== content || hasOtherMaxAge(cookie, before.meta.cookie);
  return settings.saveUninitialized || id !== originalId || content !== '{}';
}

/** Whether half of the idle time has passed since the idle deadline was last moved, as in a long request. */
function isTouchDue(id: string, { sessions, records }: RequestStore): boolean {
  const stored = sessions.stored.get(id);
  if (stored === undefined) return false;
  return performance.now() - sessions.touchedAt > records.idleOf(stored.meta) / 2;
}

async function save(session: Req['session'], { request, store, hasBegun }: Commit): Promise<void> {
  const { sessions, records } = store;
  const isNew = !sessions.stored.has(session.id);
  // Called before the first await, since later changes of the headers are undone.
  if (isNew) sessions.cookie?.keep();
  await store.saveSession(session.id, session, sessions.deadline);
  if (sessions.endedIds.includes(session.id)) {
    dropCookie(request);
  } else if (isNew && hasBegun) {
    // The headers were sent without the cookie of the new session.
    records.reportFailure(
      new StoreError(
        'ERR_REDIS_KIT_LATE_SESSION',
        'a session was begun after the response headers were sent, so its client will never send it; write to req.session before the first write',
      ),
    );
  }
}

function applyFailurePolicy(thrown: unknown, { request, store, settings, hasBegun }: Commit): void {
  const error = thrown instanceof RedisKitError ? thrown : dataError(thrown);
  store.records.reportFailure(error);
  store.sessions.isDetached = true;
  dropCookie(request);
  if (settings.onError === 'error' && !hasBegun) throw error;
}
