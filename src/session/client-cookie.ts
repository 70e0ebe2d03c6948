import type { ServerResponse } from 'node:http';
import expressSession from 'express-session';
import type { ClientCookie, WholeCookie } from './request-sessions.ts';

/** Clears the session's cookie in the client; express-session would leave it there, to be sent with every request. */
export function clientCookie(res: ServerResponse, name: string): ClientCookie {
  let cleared: string | undefined;

  function linesWithoutOurs(): string[] {
    const lines = res.getHeader('Set-Cookie') ?? [];
    return (Array.isArray(lines) ? lines : [String(lines)]).filter((line) => line !== cleared);
  }

  return {
    clear(cookie) {
      if (res.headersSent) return;
      const { expires: _, originalMaxAge: __, ...same } = cookie.data;
      const gone: WholeCookie = Reflect.construct(expressSession.Cookie, [same]);
      // The first moment of Unix time is past on every clock.
      gone.expires = new Date(0);
      const line = gone.serialize(name, '');
      res.setHeader('Set-Cookie', [...linesWithoutOurs(), line]);
      cleared = line;
    },

    keep() {
      if (cleared === undefined || res.headersSent) return;
      const lines = linesWithoutOurs();
      if (lines.length === 0) res.removeHeader('Set-Cookie');
      else res.setHeader('Set-Cookie', lines);
      cleared = undefined;
    },
  };
}
