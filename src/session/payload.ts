import expressSession from 'express-session';
import { packFrame, unpackFrame } from '../base/framing.ts';

/** What is kept of a session besides the app's own data. */
export interface SessionMeta {
  /** express-session's cookie, as its `toJSON` gives it. */
  readonly cookie: Readonly<Record<string, unknown>>;
  /** The cookie's life was asked for at the login. */
  readonly remembered?: boolean | undefined;
  /** Where the login came from. */
  readonly ip?: string | undefined;
  readonly userAgent?: string | undefined;
}

/** A session's data as the room stores it; `content` is the JSON of everything but the cookie. */
export interface SessionPayload {
  readonly meta: SessionMeta;
  readonly content: string;
  /** Whose session it is, by its `userId`. */
  readonly userId: string | undefined;
}

/** One that was read, with its content parsed. */
export interface ReadPayload extends SessionPayload {
  readonly data: Readonly<Record<string, unknown>>;
}

export function packPayload({ meta, content }: Pick<SessionPayload, 'meta' | 'content'>): Buffer {
  return packFrame(meta, Buffer.from(content));
}

/** Undefined when the bytes are none, or nothing that a session can be made of. */
export function unpackPayload(bytes: Buffer | undefined): ReadPayload | undefined {
  const frame = bytes && unpackFrame(bytes);
  if (frame === undefined) return undefined;
  try {
    const { meta } = frame;
    const content = frame.body.toString('utf8');
    const data: unknown = JSON.parse(content);
    if (!isMeta(meta) || !isObject(data)) return undefined;
    return { meta, content, data, userId: userIdOf(data.userId) };
  } catch {
    return undefined;
  }
}

/** A `userId` as it is stored, in the form that `kit.sessions` takes: numbers have only their digits to go by. */
export function userIdOf(value: unknown): string | undefined {
  if (typeof value === 'number') return String(value);
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function isMeta(value: unknown): value is SessionMeta {
  if (!isObject(value) || !isObject(value.cookie)) return false;
  // Throws what it would throw when the session is made of it.
  Reflect.construct(expressSession.Cookie, [value.cookie]);
  return true;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
