import type expressSession from 'express-session';
import { asError, RedisKitError } from '../base/errors.ts';
import { SessionContent } from './content.ts';
import { renewedCookie } from './cookie-lifetime.ts';
import type { DataParts } from './operations/data.ts';
import { isInLines } from './operations/lines.ts';

/** The stored data about a session that is not the app's own data. */
export interface SessionMeta {
  /** express-session's cookie, as its `toJSON` returns it. */
  readonly cookie: Readonly<Record<string, unknown>>;
  /**
   * Whether the handler or `login()` (option `remember`) has set the lifetime of the cookie. Absent for a cookie without a
   * lifetime, and for most cookies that an earlier version of the kit has stored.
   */
  readonly remembered?: boolean | undefined;
  /** The client's address when the session got its `userId`. */
  readonly ip?: string | undefined;
  readonly userAgent?: string | undefined;
}

/** The stored form of a session. */
export interface SessionPayload {
  readonly meta: SessionMeta;
  /** The data of the session without its cookie. */
  readonly content: SessionContent;
  readonly userId: string | undefined;
}

/** The data of a session without its cookie. */
export function contentOf(session: object): SessionContent {
  try {
    return SessionContent.of(session, 'cookie');
  } catch (error) {
    throw dataError(error);
  }
}

/** `content`: the content of the session, if the caller has computed it. */
export function payloadOf(
  session: object,
  device?: Omit<SessionMeta, 'cookie'>,
  content: SessionContent = contentOf(session),
): SessionPayload {
  const { cookie = {}, userId } = session as { cookie?: object; userId?: unknown };
  // A `userId` that is an object, such as a MongoDB ObjectId, is stored as its `toJSON` returns it.
  return { content, meta: { ...device, cookie: plainCookie(cookie) }, userId: userIdOf(plainOf(userId)) };
}

/** The attributes of a cookie as JSON represents them. */
function plainCookie(cookie: object & { readonly toJSON?: () => object }): SessionMeta['cookie'] {
  const attributes = typeof cookie.toJSON === 'function' ? cookie.toJSON() : cookie;
  const plain: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(attributes)) {
    const attribute = plainOf(value);
    if (attribute !== undefined) plain[name] = attribute;
  }
  return plain;
}

/** A value as JSON represents it; undefined for a value that JSON omits. */
function plainOf(value: unknown): unknown {
  if (typeof value === 'string' || typeof value === 'boolean' || value === undefined) return value;
  try {
    const json: string | undefined = JSON.stringify(value);
    return json === undefined ? undefined : JSON.parse(json);
  } catch (error) {
    throw dataError(error);
  }
}

/** Returns the data from which express-session creates a session. `usedAt`: the session's last use; default now. */
export function dataOf({ meta, content }: SessionPayload, usedAt?: number): expressSession.SessionData {
  // A copy, since other sessions may have the same object.
  const cookie = { ...renewedCookie(meta.cookie, usedAt) };
  return { ...content.values, cookie } as unknown as expressSession.SessionData;
}

/** Undefined when the texts are missing or no session can be created from them. */
export function parsePayload(parts: DataParts | undefined): SessionPayload | undefined {
  if (parts === undefined) return undefined;
  try {
    const meta = parseMeta(parts.meta);
    const data: unknown = JSON.parse(parts.content);
    if (meta === undefined || !isObject(data)) return undefined;
    // An earlier version of the kit has written no lines.
    const content = isInLines(parts.content)
      ? SessionContent.ofText(data, parts.content)
      : SessionContent.of(data);
    return { meta, content, userId: userIdOf(data.userId) };
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

/** The last text and its object, since sessions without a user mostly have the same meta. */
let parsedMeta: { readonly text: string; readonly meta: SessionMeta } | undefined;

function parseMeta(text: string): SessionMeta | undefined {
  if (parsedMeta?.text === text) return parsedMeta.meta;
  const meta: unknown = JSON.parse(text);
  if (!isMeta(meta)) return undefined;
  parsedMeta = { text, meta };
  return meta;
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
