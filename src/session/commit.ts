import { performance } from 'node:perf_hooks';
import expressSession from 'express-session';
import { describe } from '../base/describe.ts';
import { RedisKitError, StoreError } from '../base/errors.ts';
import { withoutIdentityWatch } from '../http/identity/identity-watch.ts';
import type { Req } from '../http/middleware.ts';
import type { WholeCookie } from './client-cookie.ts';
import { contentOf, dataError } from './content.ts';
import { hasOtherLife } from './cookie-life.ts';
import { forgetCookie, hiddenMethods, makeSession, type SessionView } from './kit-session.ts';
import type { SessionSettings } from './options.ts';
import type { SessionRecords } from './record.ts';
import type { RequestSessions } from './request-sessions.ts';

export interface CommitContext {
  readonly sessions: RequestSessions;
  readonly view: SessionView;
  readonly records: SessionRecords;
  readonly settings: SessionSettings;
  /** The id with which the request began; another one later means that the session was regenerated. */
  readonly originalId: string;
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
  try {
    if (!hasBegun) withoutIdentityWatch(() => sendNewLife(request, context));
    // A handler need not wait for its save() or destroy(); what is left to do is known when they are through.
    if (sessions.underWay !== undefined) {
      return sessions.underWay.then(() => commitSession(request, context, hasBegun));
    }
    const work = withoutIdentityWatch(() => change(request, context, hasBegun));
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
  const { sessions, settings, view, records } = context;
  if (sessions.isDetached) {
    dropCookie(request);
    return undefined;
  }
  const session = sessionOf(request, context);
  if (session === undefined) {
    const id: unknown = request.sessionID;
    if (settings.unset !== 'destroy' || typeof id !== 'string' || !sessions.stored.has(id)) return undefined;
    forgetCookie(view, id);
    return view.end(id, sessions.scope.deadline);
  }
  if (sessions.ended.includes(session.id)) {
    dropCookie(request);
    return undefined;
  }
  repair(session, context);
  const content = contentOf(session);
  if (session.id === sessions.blank && content === '{}') {
    dropCookie(request);
    return undefined;
  }
  if (isToBeSaved(session, content, context)) return save(request, session, context, hasBegun);
  if (!isLong(session.id, context)) return undefined;
  sessions.touchedAt = performance.now();
  return records.touch(session.id, sessions.scope.deadline).catch((error: unknown) => records.failed(error));
}

/** express-session sends a cookie again only with other data, which a cookie's new life is not. */
function sendNewLife(request: Req, { sessions, settings }: CommitContext): void {
  const { loaded, scope } = sessions;
  const session: Req['session'] | undefined = request.session;
  if (loaded === undefined || scope.cookie === undefined || !session?.cookie) return;
  const { cookie, id } = session;
  if (id !== request.sessionID || !sessions.stored.has(id) || !hasOtherLife(cookie, loaded.meta.cookie))
    return;
  const isSent = settings.rolling || (cookie.expires && contentOf(session) !== loaded.content);
  if (!isSent) scope.cookie.renew(cookie as WholeCookie, id);
}

/** The request's session; an object that a handler has put in its place becomes its data. */
function sessionOf(request: Req, { sessions, view }: CommitContext): Req['session'] | undefined {
  const session: unknown = request.session;
  if (!session) return undefined;
  if (session instanceof expressSession.Session) return session as Req['session'];
  if (typeof session !== 'object' || Array.isArray(session)) {
    throw new TypeError(`req.session is ${describe(session)}; it must be an object`);
  }
  if (sessions.ended.includes(request.sessionID)) view.generate(request);
  const data = { cookie: sessions.originalCookie, ...session } as expressSession.SessionData;
  request.session = makeSession(request, data) as Req['session'];
  return request.session;
}

/**
 * A handler may have copied a request's body into the session, and `cookie` with it: express-session would send a cookie
 * without its protections, or fail while the headers leave.
 */
function repair(session: Req['session'], { sessions, records }: CommitContext): void {
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

function isToBeSaved(
  { id, cookie }: Req['session'],
  content: string,
  { sessions, settings, originalId }: CommitContext,
): boolean {
  const stored = sessions.stored.get(id);
  if (stored !== undefined) {
    return stored.content !== content || hasOtherLife(cookie, stored.meta.cookie);
  }
  return settings.saveUninitialized || id !== originalId || content !== '{}';
}

/** The read slid the idle deadline; a request that takes long would use much of what it has won. */
function isLong(id: string, { sessions, records }: CommitContext): boolean {
  const stored = sessions.stored.get(id);
  if (stored === undefined) return false;
  return performance.now() - sessions.touchedAt > records.idleOf(stored.meta) / 2;
}

async function save(
  request: Req,
  session: Req['session'],
  context: CommitContext,
  hasBegun: boolean,
): Promise<void> {
  const { sessions, records, view } = context;
  const isNew = !sessions.stored.has(session.id);
  // Before anything waits: what is changed in the headers after that is undone.
  if (isNew) sessions.scope.cookie?.keep();
  await view.write(session.id, session, sessions.scope.deadline);
  if (sessions.ended.includes(session.id)) {
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
function settle(thrown: unknown, request: Req, context: CommitContext, hasBegun: boolean): void {
  const error = thrown instanceof RedisKitError ? thrown : dataError(thrown);
  context.records.failed(error);
  context.sessions.isDetached = true;
  dropCookie(request);
  if (context.settings.onError === 'error' && !hasBegun) throw error;
}
