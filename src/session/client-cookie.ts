import type { ServerResponse } from 'node:http';
import expressSession, { type Cookie } from 'express-session';
import type { Req } from '../http/middleware.ts';
import { isHeadOpen } from '../http/response/guarded-response.ts';
import { isSecure } from './cookie-options.ts';
import type { SignedCookies } from './signed-cookie.ts';

/** express-session's cookie, with what its types leave out. */
export type WholeCookie = Cookie & {
  readonly data: Readonly<Record<string, unknown>>;
  serialize(name: string, value: string): string;
};

/** What decides whether a client gets a cookie and keeps it. */
interface CookieAttributes {
  readonly secure?: unknown;
  readonly sameSite?: unknown;
  readonly partitioned?: unknown;
}

export interface ClientCookieSettings {
  /** The option `proxy`. */
  readonly proxy: boolean | undefined;
  warn(message: string): void;
}

const REMEDY =
  "serve the app over HTTPS; behind a proxy that ends TLS, let the app trust it with app.set('trust proxy', 1) or the option `proxy: true`";

/** The session's cookie in the client; express-session would leave it there, to be sent with every request. */
export class ClientCookie {
  readonly #req: Req;
  readonly #res: ServerResponse;
  readonly #cookies: SignedCookies;
  readonly #settings: ClientCookieSettings;
  #cleared: string | undefined;
  #isRenewed = false;

  constructor(req: Req, res: ServerResponse, cookies: SignedCookies, settings: ClientCookieSettings) {
    this.#req = req;
    this.#res = res;
    this.#cookies = cookies;
    this.#settings = settings;
  }

  /** The headers have left, so no cookie can. */
  get isTooLate(): boolean {
    return !isHeadOpen(this.#res);
  }

  /** Whether a new one gets to its client; what keeps it from there is logged, each reason once. */
  canLeave({ secure, sameSite, partitioned }: CookieAttributes): boolean {
    const { proxy, warn } = this.#settings;
    if (secure === true && !isSecure(this.#req, proxy)) {
      warn(
        `the cookie has \`secure: true\` and a request came over plain HTTP, so no cookie was sent and its new session was not stored; ${REMEDY}`,
      );
      return false;
    }
    // Not only browsers are clients: the session is stored, and the cookie sent.
    if (!secure && (sameSite === 'none' || partitioned === true)) {
      const attribute = sameSite === 'none' ? "sameSite: 'none'" : 'partitioned: true';
      warn(
        `a cookie with \`${attribute}\` was sent over plain HTTP and so without Secure, and browsers drop it; ${REMEDY}`,
      );
    }
    return true;
  }

  /** Sends it again, with another life. */
  renew(cookie: WholeCookie, id: string): void {
    if (this.#isRenewed || this.isTooLate || !this.canLeave(cookie)) return;
    this.#isRenewed = true;
    const line = cookie.serialize(this.#cookies.name, this.#cookies.valueOf(id));
    this.#res.setHeader('Set-Cookie', [...this.#otherLines(), line]);
  }

  /** Clears it in a client that has sent it, as long as the headers have not left. */
  clear(cookie: WholeCookie): void {
    const isSent = this.#req.headers.cookie?.includes(`${this.#cookies.name}=`) === true;
    if (!isSent || this.isTooLate) return;
    const { expires: _, originalMaxAge: __, ...same } = cookie.data;
    const gone: WholeCookie = Reflect.construct(expressSession.Cookie, [same]);
    // The first moment of Unix time is past on every clock.
    gone.expires = new Date(0);
    const line = gone.serialize(this.#cookies.name, '');
    this.#res.setHeader('Set-Cookie', [...this.#otherLines(), line]);
    this.#cleared = line;
  }

  /** A new one is sent after all. */
  keep(): void {
    if (this.#cleared === undefined || this.isTooLate) return;
    const lines = this.#otherLines();
    if (lines.length === 0) this.#res.removeHeader('Set-Cookie');
    else this.#res.setHeader('Set-Cookie', lines);
    this.#cleared = undefined;
  }

  #otherLines(): string[] {
    const lines = this.#res.getHeader('Set-Cookie') ?? [];
    return (Array.isArray(lines) ? lines : [String(lines)]).filter((line) => line !== this.#cleared);
  }
}
