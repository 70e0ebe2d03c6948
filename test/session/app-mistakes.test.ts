import type { Request, Response } from 'express';
import { expect, it } from 'vitest';
import type { KitOptions, SessionOptions } from '../../src/index.ts';
import { APPS } from '../http/frameworks.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { onEveryStore } from '../support/stores.ts';
import { Browser, dataOf, type Routes, serveSessions } from './browser.ts';

/** Assigns a value to `req.session` that the types of express-session do not allow. */
function replacing(make: (req: Request) => unknown): Routes[string] {
  return (req: Request, res: Response) => {
    Reflect.set(req, 'session', make(req));
    res.end('done');
  };
}

const ROUTES: Routes = {
  '/replace': replacing(() => ({ note: 'mine' })),
  '/spread': replacing((req) => ({ ...req.session, note: 'mine' })),
  '/empty': replacing(() => ({})),
  '/stranger': replacing(() => ({ note: 'mine', cookie: { path: '/x' }, id: 'x', req: 1, save: 2 })),
  '/bare': replacing(() => Object.assign(Object.create(null), { note: 'mine' })),
  '/falsy': replacing(() => 0),
  '/destroy': async (req, res) => {
    await req.session.destroy();
    Reflect.set(req, 'session', { note: 'mine' });
    res.end('done');
  },
  '/list': replacing(() => [1]),
  '/text': replacing(() => 'ann'),
  '/getter': (req, res) => {
    Object.defineProperty(req.session, 'broken', { enumerable: true, get: fail });
    res.end('done');
  },
  '/to-json': (req, res) => {
    Object.assign(req.session, { broken: { toJSON: fail } });
    res.end('done');
  },
  '/getter-of-object': replacing(() => Object.defineProperty({}, 'broken', { enumerable: true, get: fail })),
  '/bigint': (req, res) => {
    Object.assign(req.session, { broken: 1n });
    res.end('done');
  },
};

function fail(): never {
  throw new TypeError('the mistake of the app');
}

onEveryStore('an object that is assigned to req.session', (kitOf) => {
  async function start(options: SessionOptions = {}, kitOptions: KitOptions = {}) {
    const kit = kitOf(kitOptions);
    const browser = new Browser(await serveSessions(kit, options, ROUTES));
    return { kit, browser, errors: eventsOf(kit, 'error') };
  }

  it.each(['/replace', '/bare', '/stranger'])(
    'an object that is assigned to `req.session` begins a session with the data of the object (%s)',
    async (path) => {
      const { browser, errors } = await start();
      const answer = await browser.get(path);
      expect([answer.status, answer.body]).toEqual([200, 'done']);
      expect(answer.header('set-cookie')).toMatch(/; Path=\/; HttpOnly; SameSite=Lax$/);
      expect(await browser.data()).toEqual({ note: 'mine' });
      expect(errors).toEqual([]);
    },
  );

  it.each([
    ['/replace', { note: 'mine' }],
    ['/spread', { views: 1, note: 'mine' }],
    ['/empty', {}],
    ['/falsy', { views: 1 }],
  ])(
    'an object that is assigned to `req.session` replaces the data of a stored session under the same id (%s)',
    async (path, data) => {
      const { kit, browser } = await start();
      await browser.get('/view');
      const before = browser.sessionId;
      expect((await browser.get(path)).status).toBe(200);
      expect([await browser.data(), browser.sessionId]).toEqual([data, before]);
      expect(await kit.sessions.count()).toBe(1);
    },
  );

  it('an object that is assigned to `req.session` after `destroy` begins a new session', async () => {
    const { kit, browser } = await start();
    await browser.get('/view');
    const before = browser.sessionId;
    await browser.get('/destroy');
    expect(await browser.data()).toEqual({ note: 'mine' });
    expect(browser.sessionId).not.toBe(before);
    expect(await kit.sessions.count()).toBe(1);
  });

  it.each([
    ['/getter', 'the mistake of the app'],
    ['/to-json', 'the mistake of the app'],
    ['/getter-of-object', 'the mistake of the app'],
    ['/bigint', 'BigInt'],
    ['/list', 'it must be an object'],
    ['/text', "'ann'"],
  ])(
    'session data that cannot be stored is answered with 500 and ERR_REDIS_KIT_SESSION_DATA (%s)',
    async (path, message) => {
      const { browser, errors } = await start();
      await browser.get('/view');
      const answer = await browser.get(path);
      expect([answer.status, answer.header('retry-after')]).toEqual([500, undefined]);
      expect(errors).toMatchObject([
        {
          feature: 'session',
          error: { code: 'ERR_REDIS_KIT_SESSION_DATA', message: expect.stringContaining(message) },
        },
      ]);
      expect(errors[0]?.error.cause).toBeInstanceOf(TypeError);
      expect(await browser.data()).toEqual({ views: 1 });
    },
  );

  it('session data that cannot be stored does not change the response with `onError: "anonymous"`', async () => {
    const { browser } = await start({ onError: 'anonymous' });
    const answer = await browser.get('/getter');
    expect([answer.status, answer.body, answer.header('set-cookie')]).toEqual([200, 'done', undefined]);
  });
});

it.each(APPS)('an object assigned to req.session becomes the session data (%s)', async (_, makeApp) => {
  const kit = kitForTest({ url: 'memory:' });
  const data: Routes[string] = (req, res) => void res.end(JSON.stringify(dataOf(req)));
  const browser = new Browser(await serveSessions(kit, {}, { ...ROUTES, '/': data }, makeApp()));
  await browser.get('/replace');
  await browser.get('/view');
  expect(await browser.data()).toEqual({ note: 'mine', views: 1 });
  expect((await browser.get('/getter')).status).toBe(500);
});

it('a save rejects with the error that a getter in the session data throws', async () => {
  const kit = kitForTest({ url: 'memory:' });
  const route: Routes[string] = async (req, res) => {
    Object.defineProperty(req.session, 'broken', { enumerable: true, configurable: true, get: fail });
    const error = await req.session.save().catch((thrown: { cause: Error }) => thrown.cause.message);
    Reflect.deleteProperty(req.session, 'broken');
    res.end(error);
  };
  const browser = new Browser(await serveSessions(kit, {}, { '/save': route }));
  expect((await browser.get('/save')).body).toBe('the mistake of the app');
});

it.each<[string, SessionOptions, string]>([
  ['a genid that returns a number', { genid: () => 7 as unknown as string }, 'option `genid` returned'],
  [
    'a cookie function that returns a wrong option',
    { cookie: () => ({ maxAge: -1 }) },
    'option `maxAge` is -1',
  ],
])(
  'the response is a 500 that names %s, even for a client whose session has ended',
  async (_, options, message) => {
    const kit = kitForTest({ url: 'memory:' });
    const browser = new Browser(await serveSessions(kit));
    await browser.get('/view');
    const other = new Browser(await serveSessions(kitForTest({ url: 'memory:' }), options));
    for (const [name, value] of browser.cookies) other.cookies.set(name, value);
    const answer = await other.get('/view');
    expect([answer.status, answer.header('retry-after')]).toEqual([500, undefined]);
    expect(answer.body).toContain(message);
  },
);
