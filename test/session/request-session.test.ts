import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import express, { type Request } from 'express';
import expressSession from 'express-session';
import { expect, it, onTestFinished, vi } from 'vitest';
import type { SessionOptions } from '../../src/index.ts';
import { defineProperties } from '../../src/session/request-properties.ts';
import { ask, serve } from '../http/exchange.ts';
import { APPS, EXPRESS, mount } from '../http/frameworks.ts';
import { importCopy } from '../support/compiled-kit.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { Browser, dataOf, type Routes, SECRET, serveSessions, withRoutes } from './browser.ts';

const ROUTES: Routes = {
  '/unread': (_req, res) => void res.end('unread'),
  '/unset': (req, res) => {
    Reflect.deleteProperty(req, 'session');
    res.end(typeof req.session);
  },
  '/change-and-unset': (req, res) => {
    req.session.views = 100;
    Reflect.deleteProperty(req, 'session');
    res.end(typeof req.session);
  },
  '/unset-and-replace': (req, res) => {
    Reflect.deleteProperty(req, 'session');
    Reflect.set(req, 'session', { note: 'mine' });
    res.end('replaced');
  },
  '/has': (req, res) => {
    const before = 'session' in req;
    Reflect.deleteProperty(req, 'session');
    res.end(JSON.stringify([before, 'session' in req]));
  },
};

describeOnBothEngines('the session of a request', (url) => {
  it.each(APPS)('a session that `delete req.session` has unset is not saved (%s)', async (_, makeApp) => {
    const kit = kitForTest({ url: url() });
    const data: Routes[string] = (req, res) => void res.end(JSON.stringify(dataOf(req)));
    const browser = new Browser(await serveSessions(kit, {}, { ...ROUTES, '/': data }, makeApp()));
    await browser.get('/view');
    for (const path of ['/unset', '/change-and-unset']) {
      expect((await browser.get(path)).body).toBe('undefined');
      expect(await browser.data()).toEqual({ views: 1 });
    }
    expect((await browser.get('/has')).body).toBe('[true,false]');
  });

  it.each(['/unset', '/change-and-unset'])(
    'with `unset: "destroy"`, `delete req.session` destroys the session, even if no handler has read it (%s)',
    async (path) => {
      const kit = kitForTest({ url: url() });
      const browser = new Browser(await serveSessions(kit, { unset: 'destroy' }, ROUTES));
      await browser.get('/view');
      await browser.get(path);
      expect(browser.cookies.size).toBe(0);
      expect(await kit.sessions.count()).toBe(0);
    },
  );

  it('an object that is assigned after `delete req.session` replaces the data of the session', async () => {
    const browser = new Browser(await serveSessions(kitForTest({ url: url() }), {}, ROUTES));
    await browser.get('/view');
    const before = browser.sessionId;
    await browser.get('/unset-and-replace');
    expect([await browser.data(), browser.sessionId]).toEqual([{ note: 'mine' }, before]);
  });

  it.each<[string, SessionOptions, boolean]>([
    ['no cookie', {}, false],
    ['a cookie with `rolling: true`', { rolling: true }, true],
  ])('a response gets %s if its handler has not read the session', async (_, options, isSent) => {
    const browser = new Browser(await serveSessions(kitForTest({ url: url() }), options, ROUTES));
    expect((await browser.get('/unread')).header('set-cookie')).toBeUndefined();
    await browser.get('/view');
    expect((await browser.get('/unread')).header('set-cookie') !== undefined).toBe(isSent);
    expect(await browser.data()).toEqual({ views: 1 });
  });

  it('a new session that no handler has read is stored only with `saveUninitialized: true`', async () => {
    const kit = kitForTest({ url: url() });
    const browser = new Browser(await serveSessions(kit, { saveUninitialized: true }, ROUTES));
    expect((await browser.get('/unread')).header('set-cookie')).toBeDefined();
    expect(await kit.sessions.count()).toBe(1);
    const other = new Browser(await serveSessions(kit, {}, ROUTES));
    await other.get('/unread');
    expect(await kit.sessions.count()).toBe(1);
  });

  it('a request without a cookie creates no session if its handler does not read it', async () => {
    const address = await serveSessions(kitForTest({ url: url() }), {}, ROUTES);
    const created = vi.spyOn(expressSession, 'Cookie');
    onTestFinished(() => created.mockRestore());
    await new Browser(address).get('/unread');
    expect(created).not.toHaveBeenCalled();
    await new Browser(address).get('/has');
    expect(created).toHaveBeenCalledOnce();
  });

  it('new sessions have different ids', async () => {
    const routes: Routes = { '/id': (req, res) => void res.end(req.sessionID) };
    const browser = new Browser(await serveSessions(kitForTest({ url: url() }), {}, routes));
    const ids = new Set<string>();
    for (let times = 0; times < 300; times++) ids.add((await browser.get('/id')).body);
    expect(ids.size).toBe(300);
  });

  it('`req.sessionID` is the id in the cookie, or that of the new session', async () => {
    const routes: Routes = {
      '/id': (req, res) => void res.json([req.sessionID, req.session.id, req.sessionID]),
    };
    const browser = new Browser(await serveSessions(kitForTest({ url: url() }), {}, routes));
    const [first, ...others] = JSON.parse((await browser.get('/id')).body);
    expect(first).toMatch(/^[\w-]{32}$/);
    expect(others).toEqual([first, first]);
    await browser.get('/view');
    const { sessionId } = browser;
    expect(JSON.parse((await browser.get('/id')).body)).toEqual([sessionId, sessionId, sessionId]);
  });

  it('a session is not saved while `req.sessionID` is no string', async () => {
    const routes: Routes = {
      '/bogus': (req, res) => {
        req.session.note = 'lost';
        Reflect.set(req, 'sessionID', 7);
        res.end();
      },
    };
    const kit = kitForTest({ url: url() });
    // The request sends no command, and a scan does not wait for the first connection.
    await kit.ready();
    const browser = new Browser(await serveSessions(kit, {}, routes));
    expect((await browser.get('/bogus')).header('set-cookie')).toBeUndefined();
    expect(await kit.sessions.count()).toBe(0);
  });
});

it.each(EXPRESS)(
  'a session, its cookie and its store are of the classes of express-session (%s)',
  async (_, makeApp) => {
    const routes: Routes = {
      '/classes': (req, res) =>
        void res.json([
          req.session instanceof expressSession.Session,
          req.session.cookie instanceof expressSession.Cookie,
          req.sessionStore instanceof expressSession.Store,
          Object.keys(req.session),
        ]),
    };
    const kit = kitForTest({ url: 'memory:' });
    const browser = new Browser(await serveSessions(kit, {}, routes, makeApp()));
    expect((await browser.get('/classes')).body).toBe('[true,true,true,["cookie"]]');
    await browser.get('/view');
    expect((await browser.get('/classes')).body).toBe('[true,true,true,["views","cookie"]]');
  },
);

it.each(EXPRESS)(
  'a session of a sub-app is also that of the app, and the other way round (%s)',
  async (_, makeApp) => {
    const session = kitForTest({ url: 'memory:' }).session({ secret: SECRET });
    const idOf = (req: Request) => [req.sessionID, req.session?.id, typeof req.sessionStore];
    for (const isInSubApp of [true, false]) {
      const [app, inner] = [makeApp(), makeApp()];
      (isInSubApp ? inner : app).use(session);
      inner.use((req, _res, next) => {
        Object.assign(req, { seen: idOf(req) });
        next();
      });
      mount(app, '/', inner);
      app.use((req, res) => void res.json([Reflect.get(req, 'seen'), idOf(req)]));
      const [inside, outside] = JSON.parse((await ask(await serve(app), { path: '/' })).body);
      expect(inside).toEqual([expect.any(String), inside[0], 'object']);
      expect(outside).toEqual(inside);
    }
  },
);

it('the requests of two copies of the kit in one process have their session ids', async () => {
  const { defineProperties: copy } = await importCopy<
    typeof import('../../src/session/request-properties.ts')
  >('src/session/request-properties.ts');
  expect(copy).not.toBe(defineProperties);
  const requests = [defineProperties, copy].map((define, at) => {
    const req = new IncomingMessage(new Socket());
    define(req, { session: {}, sessionID: `id-${at}`, sessionStore: {} });
    return req as Partial<Request>;
  });
  expect(requests.map(({ sessionID }) => sessionID)).toEqual(['id-0', 'id-1']);
});

it('the second of two session middlewares does nothing', async () => {
  const [first, second] = [kitForTest({ url: 'memory:' }), kitForTest({ url: 'memory:' })];
  const app = express().use(first.session({ secret: SECRET }), second.session({ secret: SECRET }));
  const browser = new Browser(await serve(withRoutes(app, {})));
  await browser.get('/view');
  expect((await browser.get('/view')).body).toBe('2');
  expect([await first.sessions.count(), await second.sessions.count()]).toEqual([1, 0]);
});

it.each(['above', 'below'])('kit.session works with an express-session %s it', async (where) => {
  const kit = kitForTest({ url: 'memory:' });
  const theirs = expressSession({ secret: SECRET, resave: false, saveUninitialized: false });
  const ours = kit.session({ secret: SECRET });
  const app = express().use(...(where === 'above' ? [theirs, ours] : [ours, theirs]));
  const browser = new Browser(await serve(withRoutes(app, {})));
  for (const views of ['1', '2']) expect((await browser.get('/view')).body).toBe(views);
  expect(await kit.sessions.count()).toBe(where === 'above' ? 0 : 1);
});

it('a request that no session middleware handles has no session, in an app that has one elsewhere', async () => {
  const session = kitForTest({ url: 'memory:' }).session({ secret: SECRET });
  const app = express();
  app.get('/with', session, (req, res) => void res.end(req.sessionID));
  app.get('/without', (req, res) => {
    const { sessionID, sessionStore } = req as Partial<Request>;
    const before = ['session' in req, sessionID, sessionStore];
    req.sessionID = 'own';
    res.json([...before, req.sessionID]);
  });
  const port = await serve(app);
  await ask(port, { path: '/with' });
  expect((await ask(port, { path: '/without' })).body).toBe('[false,null,null,"own"]');
});

it.each([
  ['/shop/cart', 'object'],
  ['/shop', 'object'],
  ['/', 'undefined'],
  ['http://localhost/shop', 'object'],
  ['http://localhost/', 'undefined'],
])('a request for %s has a session only if the path of the cookie begins its path', async (path, type) => {
  const kit = kitForTest({ url: 'memory:' });
  const app = express().use(
    kit.session({ secret: SECRET, cookie: { path: '/shop' } }),
    (req, res) => void res.end(typeof req.session),
  );
  expect((await ask(await serve(app), { path })).body).toBe(type);
});

it.each(['cookies', 'signedCookies'])(
  'a session cookie is read from req.%s if the header has none',
  async (name) => {
    const kit = kitForTest({ url: 'memory:' });
    const app = express().use((req, _res, next) => {
      const cookie = decodeURIComponent(String(req.headers['x-cookie'] ?? ''));
      const value = name === 'cookies' ? cookie : cookie.slice(2).split('.')[0];
      if (value) Object.assign(req, { [name]: { 'connect.sid': value } });
      next();
    });
    const port = await serveSessions(kit, {}, {}, app);
    const browser = new Browser(port);
    await browser.get('/view');
    const headers = { 'X-Cookie': browser.cookies.get('connect.sid') ?? '' };
    expect((await ask(port, { path: '/view', headers })).body).toBe('2');
    if (name === 'cookies') {
      const forged = { 'X-Cookie': headers['X-Cookie'].replace(/^s%3A..../, 's%3Aaaaa') };
      expect((await ask(port, { path: '/view', headers: forged })).body).toBe('1');
    }
  },
);
