import type expressSession from 'express-session';
import { asError, RedisKitError } from '../base/errors.ts';
import { renewed } from './cookie-life.ts';
import { type ReadPayload, type SessionMeta, type SessionPayload, userIdOf } from './payload.ts';

/** What decides whether a session changed: everything but its cookie. */
export function contentOf(session: object): string {
  return stringify(() => ({ ...session, cookie: undefined }));
}

/** A session as it is stored. */
export function payloadOf(session: object, facts?: Omit<SessionMeta, 'cookie'>): SessionPayload {
  const content = contentOf(session);
  const { cookie = {}, userId } = session as { cookie?: object; userId?: unknown };
  const meta = { ...facts, cookie: JSON.parse(stringify(() => cookie)) as Record<string, unknown> };
  // An ObjectId and its like are stored as their `toJSON` says.
  const isStoredAsIs = typeof userId !== 'object';
  const stored: unknown = isStoredAsIs ? userId : JSON.parse(stringify(() => ({ userId }))).userId;
  return { content, meta, userId: userIdOf(stored) };
}

/** Throws for a session whose data and cookie take more bytes than may be stored. */
export function checkSize(bytes: number, maxBytes: number): void {
  if (bytes <= maxBytes) return;
  throw new RedisKitError(
    'ERR_REDIS_KIT_SESSION_DATA',
    `the session takes ${bytes} bytes, more than \`maxBytes\` (${maxBytes}), so it was not saved; keep large data elsewhere and only its id in the session, or raise the limit`,
  );
}

/** `read`: getters of the data run in there. */
function stringify(read: () => object): string {
  try {
    return JSON.stringify(read());
  } catch (error) {
    throw dataError(error);
  }
}

/** The app's own mistake, for which no store is to blame. */
export function dataError(cause: unknown): RedisKitError {
  return new RedisKitError(
    'ERR_REDIS_KIT_SESSION_DATA',
    `req.session was not saved, since its data cannot be stored: ${asError(cause).message}`,
    { cause },
  );
}

/** What express-session makes a session of, which was last used then. */
export function dataOf({ meta, data }: ReadPayload, usedAt?: number): expressSession.SessionData {
  return { ...data, cookie: renewed(meta.cookie, usedAt) } as unknown as expressSession.SessionData;
}
