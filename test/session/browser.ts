import type { Request, Response } from 'express';
import express from 'express';
import { Keys } from '../../src/base/keys.ts';
import type { RedisKit, SessionOptions } from '../../src/index.ts';
import { type Answer, ask, Exchange, Gate, type RequestText, serve } from '../http/exchange.ts';
import type { App } from '../http/frameworks.ts';

declare module 'express-session' {
  interface SessionData {
    views?: number;
    note?: string;
  }
}

export const SECRET = 'a secret of the tests';

/** Handlers by path. */
export type Routes = Readonly<Record<string, (req: Request, res: Response) => unknown>>;

/** A route whose requests wait in the handler, with their sessions loaded, until `release` is called. */
export function heldRoute(route: Routes[string]) {
  const [inside, gate] = [new Gate(), new Gate()];
  return {
    entered: inside.promise,
    release: () => gate.open(),
    async route(req: Request, res: Response): Promise<void> {
      inside.open();
      await gate.promise;
      await route(req, res);
    },
  };
}

/** Routes that most tests use. */
const ROUTES: Routes = {
  '/': (req, res) => void res.json(dataOf(req)),
  '/login': (req, res) => {
    req.session.regenerate((error: unknown) => {
      if (error) return void res.status(500).end(String(error));
      req.session.userId = 'ann';
      req.session.save((failed: unknown) => {
        if (failed) return void res.status(500).end(String(failed));
        res.redirect('/');
      });
    });
  },
  '/logout': (req, res) => {
    req.session.destroy(() => res.end('bye'));
  },
  '/view': (req, res) => {
    req.session.views = (req.session.views ?? 0) + 1;
    res.end(String(req.session.views));
  },
};

/** The session without its cookie; undefined for a request without a session. */
export function dataOf({ session }: Request): Record<string, unknown> | undefined {
  if (!session) return undefined;
  const { cookie: _, ...data } = session;
  return data;
}

/** Starts an app with sessions and routes, by default on Express 5. Returns its port. */
export async function serveSessions(
  kit: Pick<RedisKit, 'session'>,
  options: SessionOptions = {},
  routes: Routes = {},
  app: App = express().set('env', 'test'),
): Promise<number> {
  app.use(kit.session({ secret: SECRET, ...options }));
  return serve(withRoutes(app, routes));
}

export function withRoutes(app: App, routes: Routes): App {
  app.use((req, res, next) => {
    const route = { ...ROUTES, ...routes }[(req.url ?? '/').replace(/\?.*$/, '')];
    if (route === undefined) next();
    else route(req as Request, res as Response);
  });
  return app;
}

/** A client that keeps its cookies. */
export class Browser {
  readonly port: number;
  readonly cookies = new Map<string, string>();

  constructor(port: number) {
    this.port = port;
  }

  async get(path: string, { headers, ...request }: Omit<RequestText, 'path'> = {}): Promise<Answer> {
    const answer = await ask(this.port, { ...request, path, headers: { ...this.headers, ...headers } });
    this.#keep(answer);
    return answer;
  }

  /** Sends a request whose response a test observes. Its cookies are not kept. */
  begin(path: string, method = 'GET'): Exchange {
    return new Exchange(this.port, { method, path, headers: this.headers });
  }

  async data(): Promise<unknown> {
    return JSON.parse((await this.get('/')).body);
  }

  get headers(): Record<string, string> {
    const pairs = Array.from(this.cookies, ([name, value]) => `${name}=${value}`);
    return pairs.length === 0 ? {} : { Cookie: pairs.join('; ') };
  }

  /** The id in the session cookie; empty without a cookie. */
  get sessionId(): string {
    return /^s:([^.]+)\./.exec(decodeURIComponent(this.cookies.get('connect.sid') ?? ''))?.[1] ?? '';
  }

  keyIn(kit: Pick<RedisKit, 'prefix'>): string {
    return new Keys(kit.prefix).session(this.sessionId);
  }

  #keep(answer: Answer): void {
    for (const [name, value] of answer.headers) {
      if (name.toLowerCase() !== 'set-cookie') continue;
      const [pair = ''] = value.split(';');
      const cookie = pair.slice(0, pair.indexOf('='));
      if (/; Expires=Thu, 01 Jan 1970/.test(value)) this.cookies.delete(cookie);
      else this.cookies.set(cookie, pair.slice(pair.indexOf('=') + 1));
    }
  }
}
