import type { ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { ask, serve } from '../exchange.ts';
import { APPS, EXPRESS, mount } from '../frameworks.ts';
import { guard, RAN } from './guard.ts';

describe.each(APPS)('a response whose prototype %s changes', (_name, makeApp) => {
  it('the hooks of a sub-app that calls next() run once for the response of its parent', async () => {
    const [app, inner] = [makeApp(), makeApp()];
    const log: string[] = [];
    inner.use((_req, res, next) => {
      guard(res, log, true);
      next();
    });
    mount(app, '/', inner);
    app.use((_req, res) => void res.writeHead(201).end('outer'));
    const answer = await ask(await serve(app));
    expect([answer.status, answer.body]).toEqual([201, 'outer']);
    expect(log).toEqual(RAN);
  });

  it.each(APPS)(
    'the hooks of an app run once for the response of an app of %s that it calls',
    async (_inner, makeInner) => {
      const [app, inner] = [makeApp(), makeInner()];
      const log: string[] = [];
      app.use((_req, res, next) => {
        guard(res, log, true);
        next();
      });
      inner.use((req, res, next) => {
        if (req.url === '/next') next();
        else res.end('inner');
      });
      app.use((req, res, next) => Reflect.apply(inner, undefined, [req, res, next]));
      app.use((_req, res) => void res.end('outer'));
      const port = await serve(app);
      await expectLogs(port, log, RAN);
    },
  );
});

describe.each(EXPRESS)('a prototype of %s with methods of its own', (_name, makeApp) => {
  /** An app whose responses have an `end` that calls the one on the prototype below. */
  function makeWrappedApp(log: string[]) {
    const app = makeApp();
    const response: object = Reflect.get(app, 'response');
    Object.assign(response, {
      end(this: ServerResponse, ...args: unknown[]) {
        log.push('wrapper');
        return Reflect.apply(Reflect.get(Object.getPrototypeOf(response), 'end'), this, args);
      },
    });
    return app;
  }

  it('hooks that are added in a sub-app run once for responses of the sub-app and of its parent', async () => {
    const log: string[] = [];
    const [app, inner] = [makeApp(), makeWrappedApp(log)];
    inner.use((req, res, next) => {
      guard(res, log);
      if (req.url === '/next') next();
      else res.end('inner');
    });
    app.use(inner);
    app.use((_req, res) => void res.end('outer'));
    const port = await serve(app);
    await expectLogs(port, log, [...RAN, 'wrapper']);
  });

  it('hooks that are added above a sub-app run once for responses of the sub-app', async () => {
    const log: string[] = [];
    const [app, inner] = [makeApp(), makeWrappedApp(log)];
    app.use((_req, res, next) => {
      guard(res, log);
      next();
    });
    inner.use((_req, res) => void res.end('inner'));
    app.use(inner);
    expect((await ask(await serve(app))).body).toBe('inner');
    expect(log).toEqual(['wrapper', ...RAN]);
  });
});

/** Expects this log for a response of the inner app, and for a response of the outer app behind it. */
async function expectLogs(port: number, log: string[], expected: readonly string[]): Promise<void> {
  for (const [path, body] of Object.entries({ '/': 'inner', '/next': 'outer' })) {
    log.length = 0;
    expect((await ask(port, { path })).body).toBe(body);
    expect(log).toEqual(expected);
  }
}
