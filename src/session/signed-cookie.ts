import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';
import { BoundedMap, ownText } from '../base/bounded-map.ts';
import type { Keys } from '../base/keys.ts';
import { isWhitespace, trimWhitespace } from '../http/message/optional-whitespace.ts';
import type { Req } from '../http/middleware.ts';
import type { SessionNames } from './record-writer.ts';
import type { Secrets } from './secret.ts';

/** A session id that was read from a cookie with a valid signature. */
export interface VerifiedId extends SessionNames {
  readonly id: string;
}

interface CookieSettings {
  readonly name: string;
  readonly secrets: Secrets;
  readonly keys: Keys;
}

/** The most cookies of one request whose sessions are read. Cookies of one name may have different paths or domains. */
const MAX_IDS = 8;

/** The most bytes that the remembered cookies of one middleware take: those of about 10,000 sessions. */
const MAX_REMEMBERED_BYTES = 8 * 1024 * 1024;

const SEMICOLON = 0x3b;

/** Signed session cookies in the format of express-session: `s:<id>.<HMAC-SHA-256 in base64>`. */
export class SignedCookies {
  readonly name: string;
  readonly #secrets: Secrets;
  readonly #keys: Keys;
  readonly #start: string;
  /**
   * The ids of recently verified cookies, by their values in the header, so that most requests decode, verify and hash
   * nothing. Only values with a valid signature are added.
   */
  readonly #remembered = new BoundedMap<VerifiedId>(
    MAX_REMEMBERED_BYTES,
    ({ id, handle, key }) => 2 * (id.length + handle.length + key.length),
  );

  constructor({ name, secrets, keys }: CookieSettings) {
    this.name = name;
    this.#secrets = secrets;
    this.#keys = keys;
    this.#start = `${name}=`;
  }

  valueOf(id: string): string {
    return `s:${id}.${signature(id, this.#secrets[0])}`;
  }

  /** The ids in the cookies of a request that have a valid signature, in the order of the cookies; at most 8. */
  idsOf(req: Req): readonly VerifiedId[] {
    const { cookie: header } = req.headers;
    const at = header === undefined ? -1 : header.indexOf(this.#start);
    if (header === undefined || at < 0) return this.#idsOfParser(req);
    const isOnly = header.indexOf(this.#start, at + 1) < 0 && isStartOfPair(header, at);
    const ids = isOnly
      ? this.#idsIn([valueAt(header, at + this.#start.length)])
      : this.#idsIn(this.#valuesIn(header));
    return ids.length > 0 ? ids : this.#idsOfParser(req);
  }

  #valuesIn(header: string): readonly string[] {
    return header.split(';').flatMap((pair) => {
      const [name, value] = splitAt(pair, pair.indexOf('='));
      return trimWhitespace(name) === this.name ? [trimWhitespace(value)] : [];
    });
  }

  #idsIn(values: readonly string[]): readonly VerifiedId[] {
    const ids: VerifiedId[] = [];
    for (const value of values) {
      const verified = this.#remembered.get(value) ?? this.#verify(value);
      if (verified === undefined || ids.some(({ id }) => id === verified.id)) continue;
      ids.push(verified);
      if (ids.length === MAX_IDS) break;
    }
    return ids;
  }

  #verify(value: string): VerifiedId | undefined {
    const id = this.#idIn(decoded(value));
    if (id === undefined) return undefined;
    const verified = this.#verifiedId(id);
    this.#remembered.set(value, verified);
    return verified;
  }

  /** The id in cookies that the package cookie-parser has read, for an app that has removed them from the header. */
  #idsOfParser(req: Req): readonly VerifiedId[] {
    const { signedCookies, cookies } = req as { signedCookies?: unknown; cookies?: unknown };
    const signed = propertyOf(signedCookies, this.name);
    const id = signed || this.#idIn(propertyOf(cookies, this.name) ?? '');
    return id ? [this.#verifiedId(id)] : [];
  }

  #verifiedId(id: string): VerifiedId {
    return { id: ownText(id), ...this.#keys.sessionNames(id) };
  }

  #idIn(value: string): string | undefined {
    if (!value.startsWith('s:')) return undefined;
    const [id, given] = splitAt(value.slice(2), value.lastIndexOf('.') - 2);
    return this.#secrets.some((secret) => isEqual(given, signature(id, secret))) ? id : undefined;
  }
}

function signature(id: string, secret: string | KeyObject): string {
  return createHmac('sha256', secret).update(id).digest('base64').replace(/=+$/, '');
}

function isEqual(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/** Whether a pair of a Cookie header starts at a position, and not a longer name that ends there. */
function isStartOfPair(header: string, at: number): boolean {
  let before = at - 1;
  while (before >= 0 && isWhitespace(header.charCodeAt(before))) before--;
  return before < 0 || header.charCodeAt(before) === SEMICOLON;
}

function valueAt(header: string, start: number): string {
  const end = header.indexOf(';', start);
  return trimWhitespace(header.slice(start, end < 0 ? undefined : end));
}

/** Splits a text around the character at a position; at a negative position, the first part is the whole text. */
function splitAt(text: string, at: number): readonly [string, string] {
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

function propertyOf(cookies: unknown, name: string): string | undefined {
  if (typeof cookies !== 'object' || cookies === null) return undefined;
  const value: unknown = Reflect.get(cookies, name);
  return typeof value === 'string' ? value : undefined;
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value.replace(/^"(.*)"$/, '$1'));
  } catch {
    // Another program has written this cookie: every cookie of the kit can be decoded.
    return '';
  }
}
