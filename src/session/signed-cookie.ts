import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';
import type { Secrets } from './secret.ts';

/** The most cookies of one request whose sessions are read. Cookies of one name may have different paths or domains. */
const MAX_IDS = 8;

/** Signed session cookies in the format of express-session: `s:<id>.<HMAC-SHA-256 in base64>`. */
export class SignedCookies {
  readonly name: string;
  readonly secrets: Secrets;

  constructor(name: string, secrets: Secrets) {
    this.name = name;
    this.secrets = secrets;
  }

  valueOf(id: string): string {
    return `s:${id}.${signature(id, this.secrets[0])}`;
  }

  /** Whether the client has sent several session cookies, of which express-session would read only the first. */
  hasSeveral(header: string | undefined): header is string {
    const start = `${this.name}=`;
    return header !== undefined && header.indexOf(start) !== header.lastIndexOf(start);
  }

  /** The session ids in the cookies that have a valid signature, in the order of the header. */
  idsIn(header: string): readonly string[] {
    const ids = new Set<string>();
    for (const pair of header.split(';')) {
      const [name, value] = splitAt(pair, pair.indexOf('='));
      const id = name.trim() === this.name ? this.#idOf(decoded(value.trim())) : undefined;
      if (id !== undefined) ids.add(id);
      if (ids.size === MAX_IDS) break;
    }
    return [...ids];
  }

  #idOf(value: string): string | undefined {
    if (!value.startsWith('s:')) return undefined;
    const [id, given] = splitAt(value.slice(2), value.lastIndexOf('.') - 2);
    return this.secrets.some((secret) => isEqual(given, signature(id, secret))) ? id : undefined;
  }
}

function signature(id: string, secret: string | KeyObject): string {
  return createHmac('sha256', secret).update(id).digest('base64').replace(/=+$/, '');
}

function isEqual(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/** Splits a text around the character at a position; at a negative position, the first part is the whole text. */
function splitAt(text: string, at: number): readonly [string, string] {
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value.replace(/^"(.*)"$/, '$1'));
  } catch {
    // Another program has written this cookie: every cookie of the kit can be decoded.
    return '';
  }
}
