import express from 'express';
import expressSession from 'express-session';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { RedisKit, SessionOptions, StoreOptions } from '../../src/index.ts';
import { serve } from '../http/exchange.ts';
import { APPS, type App } from '../http/frameworks.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { Browser, type Routes, SECRET, withRoutes } from './browser.ts';

const HOUR = 3_600_000;
const STEP = HOUR / 3;

/** The lifetime of the cookie as the handler sees it. */
const ROUTES: Routes = {
  '/left': ({ session }, res) => {
    res.end(JSON.stringify([session.cookie.maxAge, session.cookie.originalMaxAge]));
  },
  '/reloaded': async (req, res) => {
    await new Promise<void>((resolve) => void req.session.reload(() => resolve()));
    res.end(JSON.stringify([req.session.cookie.maxAge, req.session.cookie.originalMaxAge]));
  },
  '/own-life': (req, res) => {
    req.session.cookie.maxAge = HOUR;
    req.session.views = 1;
    res.end();
  },
  '/remember': async (req, res) => {
    await req.session.login('ann', { remember: '1h' });
    res.end();
  },
};

/** Moves the clock of the process only. Redis has its own clock, so the sessions of these tests stay alive. */
beforeEach(() => void vi.useFakeTimers({ toFake: ['Date'] }));
afterEach(() => void vi.useRealTimers());

async function expectRenewal(browser: Browser, path = '/left'): Promise<void> {
  for (let use = 0; use < 5; use++) {
    vi.setSystemTime(Date.now() + STEP);
    expect(JSON.parse((await browser.get(path)).body)).toEqual([HOUR, HOUR]);
  }
}

describeOnBothEngines('the lifetime of `req.session.cookie`', (url) => {
  async function start(kit: RedisKit, options: SessionOptions, makeApp: () => App = defaultApp) {
    const app = makeApp();
    app.use(kit.session({ secret: SECRET, idle: '1h', ...options }));
    return new Browser(await serve(withRoutes(app, ROUTES)));
  }

  const kitOf = () => kitForTest({ url: url() });

  it.each(APPS.flatMap(([name, make]) => [true, false].map((rolling) => [name, rolling, make] as const)))(
    'a use of the session renews the `maxAge` that the options set (%s, rolling: %s)',
    async (_, rolling, makeApp) => {
      const browser = await start(kitOf(), { rolling, cookie: { maxAge: '1h' } }, makeApp);
      await browser.get('/view');
      await expectRenewal(browser);
    },
  );

  it.each(['/own-life', '/remember'])(
    'a use of the session renews a `maxAge` that the handler has set (%s)',
    async (path) => {
      const browser = await start(kitOf(), {});
      await browser.get(path);
      await expectRenewal(browser);
    },
  );

  it('a call of `reload` renews the lifetime of `req.session.cookie`', async () => {
    const browser = await start(kitOf(), { cookie: { maxAge: '1h' } });
    await browser.get('/view');
    await expectRenewal(browser, '/reloaded');
  });

  it('a rolling cookie has the same expiry as `req.session.cookie`', async () => {
    const browser = await start(kitOf(), { rolling: true, cookie: { maxAge: '1h' } });
    await browser.get('/view');
    vi.setSystemTime(Date.now() + STEP);
    const expires = new Date(Math.floor((Date.now() + HOUR) / 1_000) * 1_000).toUTCString();
    expect((await browser.get('/left')).header('set-cookie')).toContain(`Expires=${expires}`);
  });

  it('a use of the session adds no expiry to a cookie without `maxAge`', async () => {
    const browser = await start(kitOf(), {});
    await browser.get('/view');
    expect(JSON.parse((await browser.get('/left')).body)).toEqual([null, null]);
  });

  describe.each<[string, StoreOptions]>([
    ['kit.sessionStore()', {}],
    ['kit.sessionStore({ compatible })', { compatible: 'connect-redis' }],
  ])('the lifetime of the cookie with %s', (_, options) => {
    it.each([true, false])(
      'a use of the session renews the lifetime of its cookie under express-session (rolling: %s)',
      async (rolling) => {
        const kit = kitOf();
        const prefix = options.compatible === undefined ? {} : { prefix: `${kit.prefix}:` };
        const store = kit.sessionStore({ idle: '1h', ...options, ...prefix });
        const app = express().set('env', 'test');
        const cookie = { maxAge: HOUR };
        app.use(
          expressSession({ store, secret: SECRET, resave: false, saveUninitialized: false, rolling, cookie }),
        );
        const browser = new Browser(await serve(withRoutes(app, ROUTES)));
        await browser.get('/view');
        await expectRenewal(browser);
      },
    );
  });
});

function defaultApp(): App {
  const [[, makeApp] = ['', () => expect.fail('there is no app')]] = APPS;
  return makeApp();
}
