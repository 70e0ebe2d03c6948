import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';
import type { Secrets } from './secret.ts';

/** Of one name; a client may send several, which were set for other paths or domains. */
const MAX_IDS = 8;

/** The session's cookie as it is signed: `s:<id>.<HMAC-SHA-256 in base64>`, as in express-session. */
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

  /** Whether a client has sent more than one, of which express-session would see the first only. */
  areSeveral(header: string | undefined): header is string {
    const start = `${this.name}=`;
    return header !== undefined && header.indexOf(start) !== header.lastIndexOf(start);
  }

  /** The ids of those that verify, in the order in which the client sent them. */
  idsIn(header: string): readonly string[] {
    const ids = new Set<string>();
    for (const pair of header.split(';')) {
      const [name, value] = halves(pair, pair.indexOf('='));
      const id = name.trim() === this.name ? this.#idOf(decoded(value.trim())) : undefined;
      if (id !== undefined) ids.add(id);
      if (ids.size === MAX_IDS) break;
    }
    return [...ids];
  }

  #idOf(value: string): string | undefined {
    if (!value.startsWith('s:')) return undefined;
    const [id, given] = halves(value.slice(2), value.lastIndexOf('.') - 2);
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

/** What is before and after a position; where there is none, all is before it. */
function halves(text: string, at: number): readonly [string, string] {
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value.replace(/^"(.*)"$/, '$1'));
  } catch {
    // No cookie of ours has it.
    return '';
  }
}
