import type { RequestListener } from 'node:http';
import type { Middleware } from '../../src/index.ts';
import { APPS, type App } from '../http/frameworks.ts';

/** A server whose handler is below these middleware. */
export type MakeServer = (above: readonly Middleware[], handler: RequestListener) => RequestListener;

function appWith(makeApp: () => App): MakeServer {
  return (above, handler) => {
    const app = makeApp();
    for (const middleware of above) app.use(middleware);
    app.use((req, res) => handler(req, res));
    return app;
  };
}

export const makeNodeServer: MakeServer = (above, handler) => (req, res) => {
  const pass = (at: number): void => {
    const middleware = above[at];
    if (middleware === undefined) handler(req, res);
    else middleware(req, res, () => pass(at + 1));
  };
  pass(0);
};

/** Express 5 and 4, Connect, and a plain server of Node. */
export const SERVERS: readonly (readonly [name: string, makeServer: MakeServer])[] = [
  ...APPS.map(([name, makeApp]) => [name, appWith(makeApp)] as const),
  ['node:http', makeNodeServer],
];
