import type expressSession from 'express-session';
import { asError, RedisKitError } from '../base/errors.ts';
import { renewedCookie } from './cookie-lifetime.ts';
import type { DataParts } from './operations/data.ts';

/** The stored data about a session that is not the app's own data. */
export interface SessionMeta {
  /** express-session's cookie, as its `toJSON` returns it. */
  readonly cookie: Readonly<Record<string, unknown>>;
  /** Whether `login()` has set the lifetime of the cookie (option `remember`). */
  readonly remembered?: boolean | undefined;
  /** The client's address when the session got its `userId`. */
  readonly ip?: string | undefined;
  readonly userAgent?: string | undefined;
}

/** The data of a session in the form in which it is stored. */
export interface SessionPayload {
  readonly meta: SessionMeta;
  /** The JSON of the session without its cookie. */
  readonly content: string;
  readonly userId: string | undefined;
}

export interface ParsedPayload extends SessionPayload {
  readonly data: Readonly<Record<string, unknown>>;
}

/** The JSON of a session without its cookie, which is compared to detect a change. */
export function contentOf(session: object): string {
  return stringify(() => ({ ...session, cookie: undefined }));
}

/** `content`: the content of the session, if the caller has computed it. */
export function payloadOf(
  session: object,
  device?: Omit<SessionMeta, 'cookie'>,
  content: string = contentOf(session),
): SessionPayload {
  const { cookie = {}, userId } = session as { cookie?: object; userId?: unknown };
  const meta = { ...device, cookie: JSON.parse(stringify(() => cookie)) as Record<string, unknown> };
  // A `userId` that is an object, such as a MongoDB ObjectId, is stored as its `toJSON` returns it.
  const isStoredAsIs = typeof userId !== 'object';
  const stored: unknown = isStoredAsIs ? userId : JSON.parse(stringify(() => ({ userId }))).userId;
  return { content, meta, userId: userIdOf(stored) };
}

/** Returns the data from which express-session creates a session. `usedAt`: the session's last use; default now. */
export function dataOf({ meta, data }: ParsedPayload, usedAt?: number): expressSession.SessionData {
  return { ...data, cookie: renewedCookie(meta.cookie, usedAt) } as unknown as expressSession.SessionData;
}

/** Undefined when the texts are missing or no session can be created from them. */
export function parsePayload(parts: DataParts | undefined): ParsedPayload | undefined {
  if (parts === undefined) return undefined;
  try {
    const meta: unknown = JSON.parse(parts.meta);
    const data: unknown = JSON.parse(parts.content);
    if (!isMeta(meta) || !isObject(data)) return undefined;
    // The stored text differs in line feeds, in the place of integer keys and in escapes from JSON that it is compared with.
    return { meta, content: JSON.stringify(data), data, userId: userIdOf(data.userId) };
  } catch {
    return undefined;
  }
}

/** Returns a `userId` as a string, as `kit.sessions` takes it; undefined when it is no number or non-empty string. */
export function userIdOf(value: unknown): string | undefined {
  if (typeof value === 'number') return String(value);
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** Throws for a session whose data and cookie take more than `maxBytes` bytes. */
export function checkSize(bytes: number, maxBytes: number): void {
  if (bytes <= maxBytes) return;
  throw new RedisKitError(
    'ERR_REDIS_KIT_SESSION_DATA',
    `the session takes ${bytes} bytes, more than \`maxBytes\` (${maxBytes}), so it was not saved; keep large data elsewhere and only its id in the session, or raise the limit`,
  );
}

/** The error for session data that cannot be stored: a mistake of the app, not a failure of the store. */
export function dataError(cause: unknown): RedisKitError {
  return new RedisKitError(
    'ERR_REDIS_KIT_SESSION_DATA',
    `req.session was not saved, since its data cannot be stored: ${asError(cause).message}`,
    { cause },
  );
}

/** Returns the JSON of an object. `read` runs inside the `try`, since it may call getters of the session that throw. */
function stringify(read: () => object): string {
  try {
    return JSON.stringify(read());
  } catch (error) {
    throw dataError(error);
  }
}

function isMeta(value: unknown): value is SessionMeta {
  if (!isObject(value) || !isObject(value.cookie)) return false;
  const { maxAge } = value.cookie;
  // express-session throws for a cookie with another `maxAge`.
  return !maxAge || typeof maxAge === 'number';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
