import type expressSession from 'express-session';
import { RedisKitError } from '../base/errors.ts';
import type { Deadline } from '../engine/deadline.ts';
import { type CookieLifetime, hasOtherMaxAge } from './cookie-lifetime.ts';
import { dataOf, payloadOf, type SessionPayload } from './payload.ts';
import type { RequestSession } from './request-session.ts';
import type { StoredSession } from './session-records.ts';

/** Loads the session of an id for a request; null when the id has none. */
export async function loadSession(
  request: RequestSession,
  id: string,
  deadline: Deadline,
): Promise<expressSession.SessionData | null> {
  const stored = await request.parts.records.load(id, deadline);
  if (stored === undefined) return null;
  request.stored.set(id, stored);
  return dataOf(stored);
}

/** Saves a session after all earlier saves and destroys of its request. A session that has ended is not saved. */
export async function saveSession(
  request: RequestSession,
  id: string,
  session: object,
  deadline: Deadline,
): Promise<void> {
  // Computed before the save waits in the queue, since the handler may change the session meanwhile.
  await savePayload(request, id, { session, payload: payloadOf(session) }, deadline);
}

/** Like `saveSession`, for a caller that has the payload of the session. */
export function savePayload(
  request: RequestSession,
  id: string,
  { session, payload }: { readonly session: object; readonly payload: SessionPayload },
  deadline: Deadline,
): Promise<void> {
  return request.enqueue(async () => {
    if (request.isDetached || request.hasEnded(id)) return;
    const saved = isUnreachable(request, id, session)
      ? undefined
      : await save(request, id, payload, deadline);
    if (saved === undefined) request.end(id);
    else request.stored.set(id, saved);
  });
}

/** Destroys a session after all earlier saves and destroys of its request. */
export async function destroySession(request: RequestSession, id: string, deadline: Deadline): Promise<void> {
  await request.enqueue(async () => {
    if (request.isDetached || (request.hasGenerated(id) && !request.stored.has(id))) return;
    await request.parts.records.destroy(id, request.stored.get(id), deadline);
    request.stored.delete(id);
    // A later save by the handler must not store the destroyed session again.
    request.end(id);
  });
}

/** Whether no client will ever send the id: the session is new and its cookie cannot be sent. */
function isUnreachable(request: RequestSession, id: string, session: object): boolean {
  const { clientCookie, stored } = request;
  if (clientCookie === undefined || stored.has(id) || request.id !== id) return false;
  return !clientCookie.canBeSent((session as Partial<expressSession.SessionData>).cookie ?? {});
}

/** Whether the handler has set the lifetime of a cookie; undefined if the stored mark of the session holds. */
function isRemembered(request: RequestSession, id: string, cookie: CookieLifetime): boolean | undefined {
  if (typeof cookie.originalMaxAge !== 'number') return undefined;
  const stored = request.stored.get(id);
  if (stored !== undefined) return hasOtherMaxAge(cookie, stored.meta.cookie) ? true : undefined;
  const generated = request.generatedCookie(id);
  return generated && hasOtherMaxAge(cookie, generated);
}

async function save(
  request: RequestSession,
  id: string,
  payload: SessionPayload,
  deadline: Deadline,
): Promise<StoredSession | undefined> {
  const { records } = request.parts;
  const stored = request.stored.get(id);
  const isNewUser = payload.userId !== undefined && payload.userId !== stored?.userId;
  const remembered = isRemembered(request, id, payload.meta.cookie);
  const marked = remembered === undefined ? payload.meta : { remembered, ...payload.meta };
  const meta = isNewUser ? { ...request.device(), ...marked } : marked;
  try {
    return stored === undefined
      ? await records.create(id, { ...payload, meta }, deadline)
      : await records.update(stored, { ...payload, meta }, deadline);
  } catch (error) {
    // `UserIndex.admit` has destroyed the session, since its user has too many sessions.
    if (error instanceof RedisKitError && error.code === 'ERR_REDIS_KIT_SESSION_LIMIT') request.end(id);
    throw error;
  }
}
