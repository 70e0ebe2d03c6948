import { performance } from 'node:perf_hooks';
import expressSession from 'express-session';
import { describe } from '../base/describe.ts';
import { RedisKitError, StoreError } from '../base/errors.ts';
import type { Req } from '../http/middleware.ts';
import type { ResponseHook } from '../http/response/guarded-response.ts';
import type { SessionContent } from './content.ts';
import { hasOtherMaxAge } from './cookie-lifetime.ts';
import { contentOf, dataError, payloadOf } from './payload.ts';
import { type RequestSession, UNTOUCHED } from './request-session.ts';
import { sendCookie } from './send-cookie.ts';
import { hiddenMethods } from './session-methods.ts';
import type { StoredSession } from './session-records.ts';
import { destroySession, savePayload } from './session-writes.ts';

type Session = Req['session'];

/** Saves the session of a request before its response is sent, and sets the session cookie. */
export class CommitHook implements ResponseHook {
  readonly #request: RequestSession;
  #isCommitted = false;

  constructor(request: RequestSession) {
    this.#request = request;
  }

  get phase(): 'session' {
    return 'session';
  }

  /** A change after the last write is saved before the client gets the last byte and can send its next request. */
  get withholdsLastBytes(): true {
    return true;
  }

  beforeHeaders(): undefined | Promise<void> {
    const work = commitSession(this.#request, false);
    this.#isCommitted = work === undefined;
    return work;
  }

  beforeEnd(hasBegun: boolean, ranOn: boolean): undefined | Promise<void> {
    // Without a save or a streamed body, the session cannot have changed since `beforeHeaders`.
    return this.#isCommitted && !ranOn ? undefined : commitSession(this.#request, hasBegun);
  }

  headLeaves(): void {
    sendCookie(this.#request);
  }
}

/**
 * Saves, touches or destroys `req.session` in the store, before the response headers are sent and again before the end.
 * Returns undefined when the store needs no command. Rejects or throws when an error must replace the response.
 * `hasBegun`: the response headers were sent.
 */
function commitSession(request: RequestSession, hasBegun: boolean): undefined | Promise<void> {
  // A handler need not await save() or destroy(), and their results decide whether the session still must be saved.
  if (request.pendingWrite !== undefined) {
    return request.pendingWrite.then(() => commitSession(request, hasBegun));
  }
  try {
    const work = writeSession(request, hasBegun);
    return work?.catch((error: unknown) => applyFailurePolicy(error, request, hasBegun));
  } catch (error) {
    // The session has data that JSON cannot represent.
    applyFailurePolicy(error, request, hasBegun);
    return undefined;
  }
}

function writeSession(request: RequestSession, hasBegun: boolean): undefined | Promise<void> {
  if (request.isReplaced) return undefined;
  const value = request.peek();
  if (value === UNTOUCHED && !isStoredUntouched(request)) return touchIfDue(request, request.cookieId);
  if (request.isDetached) return request.dropCookie();
  const session = sessionOf(request, value === UNTOUCHED ? request.session : value);
  if (session === undefined) return destroyUnset(request);
  if (request.hasEnded(session.id)) return request.dropCookie();
  // A handler has assigned something else to `req.sessionID`.
  if (request.id === undefined && !request.isCookieDropped) return undefined;
  restoreCookie(session, request);
  const before = request.stored.get(session.id);
  const content = currentContent(session, before?.content, request);
  if (session.id === request.loggedOutId && content.isEmpty) return request.dropCookie();
  if (mustBeSaved(session, content, before, request)) return save(session, content, request, hasBegun);
  return touchIfDue(request, session.id);
}

function isStoredUntouched({ isNew, parts }: RequestSession): boolean {
  return isNew && parts.settings.saveUninitialized;
}

/** Moves the idle deadline of a stored session at the end of a long request. */
function touchIfDue(request: RequestSession, id: string | undefined): undefined | Promise<void> {
  if (id === undefined || !request.isTouchDue(id)) return undefined;
  const { records } = request.parts;
  request.touchedAt = performance.now();
  return records.touch(id, request.deadline).catch((error: unknown) => records.reportFailure(error));
}

/** Handles an unset session (`req.session = null`): destroys the stored session with `unset: 'destroy'`. */
function destroyUnset(request: RequestSession): undefined | Promise<void> {
  const { id, stored, parts } = request;
  if (parts.settings.unset !== 'destroy' || id === undefined || !stored.has(id)) return undefined;
  request.clearCookie(id);
  return destroySession(request, id, request.deadline);
}

/** The session in a value of `req.session`. A plain object becomes the data of the session. */
function sessionOf(request: RequestSession, value: unknown): Session | undefined {
  if (!value) return undefined;
  if (value instanceof expressSession.Session) return value as Session;
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new TypeError(`req.session is ${describe(value)}; it must be an object`);
  }
  const { req, id, originalCookie, parts } = request;
  if (id !== undefined && request.hasEnded(id)) request.generate();
  req.session = parts.makeSession(req, { cookie: originalCookie, ...value }) as Session;
  return req.session;
}

/**
 * Restores the cookie of a session. A handler may have copied a request body with a `cookie` into the session, from which
 * an unprotected cookie would be set.
 */
function restoreCookie(session: Session, { originalCookie }: RequestSession): void {
  if (!(session.cookie instanceof expressSession.Cookie) && originalCookie !== undefined) {
    session.cookie = originalCookie;
  }
}

/** The content of a session: `stored` itself, if the session has not changed. Restores the methods of the session. */
function currentContent(
  session: Session,
  stored: SessionContent | undefined,
  { parts }: RequestSession,
): SessionContent {
  // Data under the name of a method is never stored, so an unchanged session has none.
  if (stored?.isOf(session) === true) return stored;
  const hidden = hiddenMethods(session);
  for (const name of hidden) {
    parts.records.warn(
      `req.session.${name} is a method of every session, so data under this name is not kept; take another name`,
    );
    Reflect.deleteProperty(session, name);
  }
  return hidden.length > 0 && stored?.isOf(session) === true ? stored : contentOf(session);
}

function mustBeSaved(
  { id, cookie }: Session,
  content: SessionContent,
  before: StoredSession | undefined,
  { originalId, parts }: RequestSession,
): boolean {
  if (before !== undefined) return before.content !== content || hasOtherMaxAge(cookie, before.meta.cookie);
  return parts.settings.saveUninitialized || id !== originalId || !content.isEmpty;
}

async function save(
  session: Session,
  content: SessionContent,
  request: RequestSession,
  hasBegun: boolean,
): Promise<void> {
  const isNew = !request.stored.has(session.id);
  // Called before the first await, since later changes of the headers are undone.
  if (isNew) request.clientCookie?.keep();
  const payload = payloadOf(session, undefined, content);
  await savePayload(request, session.id, { session, payload }, request.deadline);
  if (request.hasEnded(session.id)) {
    request.dropCookie();
  } else if (isNew && hasBegun) {
    // The headers were sent without the cookie of the new session.
    request.parts.records.reportFailure(
      new StoreError(
        'ERR_REDIS_KIT_LATE_SESSION',
        'a session was created after the response headers were sent, so its cookie cannot be sent; write to req.session before the first write',
      ),
    );
  }
}

function applyFailurePolicy(thrown: unknown, request: RequestSession, hasBegun: boolean): void {
  const error = thrown instanceof RedisKitError ? thrown : dataError(thrown);
  const { records, settings } = request.parts;
  records.reportFailure(error);
  request.isDetached = true;
  request.dropCookie();
  // A login that `maxPerUser` refuses is no outage, which the policy could ignore.
  const isRefused = error.code === 'ERR_REDIS_KIT_SESSION_LIMIT';
  if ((isRefused || settings.onError === 'error') && !hasBegun) throw error;
}
