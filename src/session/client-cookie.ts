import type { ServerResponse } from 'node:http';
import expressSession, { type Cookie } from 'express-session';
import { isHeadOpen } from '../http/before-end.ts';

/** express-session's cookie, with what its types leave out. */
export type WholeCookie = Cookie & {
  readonly data: Readonly<Record<string, unknown>>;
  serialize(name: string, value: string): string;
};

/** The session's cookie in the client; express-session would leave it there, to be sent with every request. */
export class ClientCookie {
  readonly #res: ServerResponse;
  readonly #name: string;
  #cleared: string | undefined;

  constructor(res: ServerResponse, name: string) {
    this.#res = res;
    this.#name = name;
  }

  /** The headers have left: nothing can be told any more. */
  get isTooLate(): boolean {
    return !isHeadOpen(this.#res);
  }

  /** Tells a client that has sent it to forget it, as long as the headers have not left. */
  clear(cookie: WholeCookie): void {
    const isSent = this.#res.req.headers.cookie?.includes(`${this.#name}=`) === true;
    if (!isSent || this.isTooLate) return;
    const { expires: _, originalMaxAge: __, ...same } = cookie.data;
    const gone: WholeCookie = Reflect.construct(expressSession.Cookie, [same]);
    // The first moment of Unix time is past on every clock.
    gone.expires = new Date(0);
    const line = gone.serialize(this.#name, '');
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
