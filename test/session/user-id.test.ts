import type { Request, Response } from 'express';
import expressSession from 'express-session';
import { expect, it } from 'vitest';
import type { RedisKit, SessionOptions } from '../../src/index.ts';
import { serve } from '../http/exchange.ts';
import { EXPRESS } from '../http/frameworks.ts';
import { kitForTest } from '../support/kits.ts';
import { onEveryStore } from '../support/stores.ts';
import { Browser, heldRoute, type Routes, SECRET, serveSessions, withRoutes } from './browser.ts';

/** Sets the `userId` of the session, which is saved at the end of the request. */
function become(userId: unknown): Routes[string] {
  return (req: Request, res: Response) => {
    Object.assign(req.session, { userId });
    res.end('done');
  };
}

const ROUTES: Routes = {
  '/ann': become('ann'),
  '/bob': become('bob'),
  '/anonymous': become(undefined),
  '/number': become(42),
  '/object-id': become({ toJSON: () => '507f1f77' }),
  '/object': become({ name: 'ann' }),
  '/in': async (req, res) => {
    await req.session.login('ann');
    res.end('in');
  },
};

async function start(kit: RedisKit, options: SessionOptions = {}, routes: Routes = {}) {
  return new Browser(await serveSessions(kit, options, { ...ROUTES, ...routes }));
}

onEveryStore('a saved session with a `userId`', (kitOf) => {
  it('a new or existing session that is saved with a `userId` is in the list of that user', async () => {
    const kit = kitOf();
    const browser = await start(kit);
    await browser.get('/ann');
    expect(await kit.sessions.count('ann')).toBe(1);
    const other = new Browser(browser.port);
    await other.get('/view');
    await other.get('/ann');
    expect(await kit.sessions.list('ann')).toMatchObject([{ ip: '127.0.0.1' }, { ip: '127.0.0.1' }]);
    expect(await kit.sessions.revokeAll('ann')).toBe(2);
    expect([await browser.data(), await other.data()]).toEqual([{}, {}]);
  });

  it('a session whose `userId` changes or is removed leaves the list of the old user', async () => {
    const kit = kitOf();
    const browser = await start(kit);
    await browser.get('/in');
    await browser.get('/bob');
    expect([await kit.sessions.count('ann'), await kit.sessions.count('bob')]).toEqual([0, 1]);
    await browser.get('/anonymous');
    expect([await kit.sessions.count('bob'), await kit.sessions.count()]).toEqual([0, 1]);
    expect(await kit.sessions.revokeAll('bob')).toBe(0);
    await browser.get('/view');
    expect(await browser.data()).toEqual({ views: 1 });
  });

  it.each([
    ['/number', '42'],
    ['/object-id', '507f1f77'],
  ])('a `userId` that is stored as %s is listed under %s', async (path, userId) => {
    const kit = kitOf();
    const browser = await start(kit);
    await browser.get(path);
    expect(await kit.sessions.count(userId)).toBe(1);
    await browser.get('/view');
    expect(await kit.sessions.revokeAll(userId)).toBe(1);
    expect(await browser.data()).toEqual({});
  });

  it('a session that is saved while another request sets its `userId` stays in the list of that user', async () => {
    const kit = kitOf();
    const held = heldRoute((req, res) => {
      req.session.note = 'late';
      res.end();
    });
    const browser = await start(kit, {}, { '/slow': held.route });
    await browser.get('/view');
    const slow = browser.begin('/slow');
    await held.entered;
    await browser.get('/ann');
    held.release();
    await slow.answer();
    expect(await browser.data()).toEqual({ views: 1, note: 'late', userId: 'ann' });
    expect(await kit.sessions.count('ann')).toBe(1);
  });

  it.each(['error', 'anonymous'] as const)(
    'a save that sets a `userId` above `maxPerUser` is answered with 409, and logs no user in (onError: %s)',
    async (onError) => {
      const kit = kitOf();
      const browser = await start(kit, { onError, maxPerUser: { limit: 1, onExceed: 'reject' } });
      await browser.get('/ann');
      const other = new Browser(browser.port);
      const answer = await other.get('/ann');
      expect([answer.status, answer.header('content-type')]).toEqual([
        409,
        'application/problem+json; charset=utf-8',
      ]);
      expect([await other.data(), await kit.sessions.count()]).toEqual([{}, 1]);
    },
  );

  it('a session of an app’s own express-session with a `userId` is in the list of that user', async () => {
    const kit = kitOf();
    const app = EXPRESS[0]?.[1]() as ReturnType<(typeof EXPRESS)[number][1]>;
    const store = kit.sessionStore();
    app.use(expressSession({ store, secret: SECRET, resave: false, saveUninitialized: false }));
    const browser = new Browser(await serve(withRoutes(app, ROUTES)));
    await browser.get('/view');
    await browser.get('/ann');
    expect(await kit.sessions.count('ann')).toBe(1);
    expect(await kit.sessions.revokeAll('ann')).toBe(1);
    expect(await browser.data()).toEqual({});
  });
});

onEveryStore('login() with `keepData`', (kitOf) => {
  const login = (userId: string, keepData?: boolean) => async (req: Request, res: Response) => {
    await req.session.login(userId, { keepData, data: { note: 'new' } });
    res.end();
  };

  it.each([
    ['with `keepData` keeps', true, { views: 1, note: 'new', userId: 'ann' }],
    ['without `keepData` drops', undefined, { note: 'new', userId: 'ann' }],
  ])('a login %s the data of an anonymous session', async (_, keepData, data) => {
    const browser = await start(kitOf(), {}, { '/login-ann': login('ann', keepData) });
    await browser.get('/view');
    const before = browser.sessionId;
    await browser.get('/login-ann');
    expect(await browser.data()).toEqual(data);
    expect(browser.sessionId).not.toBe(before);
  });

  it('a login with `keepData` keeps the data of the same user, and drops that of another user', async () => {
    const routes = { '/login-ann': login('ann', true), '/login-bob': login('bob', true) };
    const browser = await start(kitOf(), {}, routes);
    await browser.get('/login-ann');
    await browser.get('/view');
    await browser.get('/login-ann');
    expect(await browser.data()).toEqual({ views: 1, note: 'new', userId: 'ann' });
    await browser.get('/login-bob');
    expect(await browser.data()).toEqual({ note: 'new', userId: 'bob' });
  });
});

it('a login with an invalid `keepData` is an error that names the option', async () => {
  const kit = kitForTest({ url: 'memory:' });
  const browser = await start(
    kit,
    {},
    {
      '/wrong': async (req, res) => {
        const options = { keepData: 'yes' } as never;
        res.end(await req.session.login('ann', options).catch((error: Error) => error.message));
      },
    },
  );
  expect((await browser.get('/wrong')).body).toContain('option `keepData`');
});
