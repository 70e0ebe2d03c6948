import type { ServerResponse } from 'node:http';
import expressSession, { type Cookie, type CookieOptions } from 'express-session';
import type { Req } from '../http/middleware.ts';
import { isHeadOpen } from '../http/response/guarded-response.ts';
import { isSecure } from './cookie-options.ts';
import type { SignedCookies } from './signed-cookie.ts';

/** A cookie object of express-session, with the members that express-session's types omit. */
export type SessionCookie = Cookie & {
  readonly data: Readonly<Record<string, unknown>>;
  serialize(name: string, value: string): string;
};

interface ClientCookieSettings {
  readonly proxy: boolean | undefined;
  warn(message: string): void;
}

const REMEDY =
  "serve the app over HTTPS; behind a proxy that ends TLS, let the app trust it with app.set('trust proxy', 1) or the option `proxy: true`";

/** Sets and clears the session cookie in the client. */
export class ClientCookie {
  readonly #req: Req;
  readonly #res: ServerResponse;
  readonly #cookies: SignedCookies;
  readonly #settings: ClientCookieSettings;
  #cleared: string | undefined;

  constructor(req: Req, res: ServerResponse, cookies: SignedCookies, settings: ClientCookieSettings) {
    this.#req = req;
    this.#res = res;
    this.#cookies = cookies;
    this.#settings = settings;
  }

  /** Whether the response headers were already sent, so that no cookie can be set. */
  get isTooLate(): boolean {
    return !isHeadOpen(this.#res);
  }

  /** Whether a new cookie can be sent over the connection of the request. Logs each obstacle once. */
  canBeSent({ secure, sameSite, partitioned }: CookieOptions): boolean {
    const { proxy, warn } = this.#settings;
    if (secure === true && !isSecure(this.#req, proxy)) {
      warn(
        `the cookie has \`secure: true\` and a request came over plain HTTP, so no cookie was sent and its new session was not stored; ${REMEDY}`,
      );
      return false;
    }
    // Such a cookie is sent all the same: browsers drop it, but other clients keep it.
    if (!secure && (sameSite === 'none' || partitioned === true)) {
      const attribute = sameSite === 'none' ? "sameSite: 'none'" : 'partitioned: true';
      warn(
        `a cookie with \`${attribute}\` was sent over plain HTTP and so without Secure, and browsers drop it; ${REMEDY}`,
      );
    }
    return true;
  }

  /** Sets the cookie on the response, next to the cookies of the app. */
  send(cookie: SessionCookie, id: string): void {
    const line = cookie.serialize(this.#cookies.name, this.#cookies.valueOf(id));
    this.#res.setHeader('Set-Cookie', [...this.#otherLines(), line]);
  }

  /** Clears the cookie if the client has sent it and the headers are not sent yet. */
  clear(cookie: SessionCookie): void {
    const isSent = this.#req.headers.cookie?.includes(`${this.#cookies.name}=`) === true;
    if (!isSent || this.isTooLate) return;
    const { expires: _, originalMaxAge: __, ...same } = cookie.data;
    const expired: SessionCookie = Reflect.construct(expressSession.Cookie, [same]);
    // 1970-01-01, which is in the past even on a client whose clock is wrong.
    expired.expires = new Date(0);
    const line = expired.serialize(this.#cookies.name, '');
    this.#res.setHeader('Set-Cookie', [...this.#otherLines(), line]);
    this.#cleared = line;
  }

  /** Undoes `clear` before a new cookie is sent, so that the response has one session cookie. */
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
