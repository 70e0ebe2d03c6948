import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import express, { type Response } from 'express';
import expressSession, { type SessionData } from 'express-session';
import { describe, expect, it } from 'vitest';
import type { RedisKit, SessionOptions, StoreOptions } from '../../src/index.ts';
import { serve } from '../http/exchange.ts';
import { APPS } from '../http/frameworks.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../support/kits.ts';
import { onEveryStore } from '../support/stores.ts';
import { Browser, heldRoute, type Routes, SECRET, serveSessions, withRoutes } from './browser.ts';

const MEBIBYTE = 2 ** 20;

/** The bytes that a rejected save would have stored, from its error. */
function sizeIn(message: string): number {
  return Number(/takes (\d+) bytes/.exec(message)?.[1]);
}

/** Routes that write a note of `?length` and answer with the result. */
const ROUTES: Routes = {
  '/write': (req, res) => {
    req.session.note = 'é'.repeat(Number(req.headers['x-length']));
    res.end('written');
  },
  '/save': async (req, res) => {
    req.session.note = 'é'.repeat(Number(req.headers['x-length']));
    try {
      await req.session.save();
      res.end('saved');
    } catch (error) {
      Reflect.deleteProperty(req.session, 'note');
      answerError(res, error);
    }
  },
  '/save-by-callback': (req, res) => {
    req.session.note = 'é'.repeat(Number(req.headers['x-length']));
    req.session.save((error: unknown) => {
      Reflect.deleteProperty(req.session, 'note');
      answerError(res, error);
    });
  },
  '/begin': async (req, res) => {
    try {
      await req.session.login('bob', { data: { note: 'é'.repeat(Number(req.headers['x-length'])) } });
      res.end('logged in');
    } catch (error) {
      answerError(res, error);
    }
  },
};

function answerError(res: Response, error: unknown): void {
  const { code, message } = error as { code: string; message: string };
  res.end(JSON.stringify({ code, message }));
}

const headersFor = (length: number) => ({ headers: { 'X-Length': String(length) } });

/** The length of the note in a session. The client reads bytes, and an `é` has two. */
function lengthOf(data: unknown): number {
  return ((data as { note?: string }).note ?? '').length / 2;
}

onEveryStore('kit.session with maxBytes', (kitOf) => {
  async function start(options: SessionOptions = {}, routes: Routes = {}) {
    const kit = kitOf();
    const port = await serveSessions(kit, options, { ...ROUTES, ...routes });
    return { kit, errors: eventsOf(kit, 'error'), browser: new Browser(port) };
  }

  it('a session of 4 MiB is answered with 500 by default, and the stored session is kept', async () => {
    const { browser, errors } = await start();
    await browser.get('/view');
    const answer = await browser.get('/write', headersFor(2 * MEBIBYTE));
    expect([answer.status, answer.header('content-type'), answer.header('set-cookie')]).toEqual([
      500,
      'application/problem+json; charset=utf-8',
      undefined,
    ]);
    expect(errors).toMatchObject([
      {
        feature: 'session',
        error: {
          code: 'ERR_REDIS_KIT_SESSION_DATA',
          message: expect.stringMatching(
            /takes 4194\d{3} bytes, more than `maxBytes` \(1048576\).* keep large data elsewhere/,
          ),
        },
      },
    ]);
    expect(await browser.data()).toEqual({ views: 1 });
  });

  it.each<[string, SessionOptions]>([
    ['in plain', {}],
    ['encrypted', { encrypt: { keys: [randomBytes(32)] } }],
  ])('a session is stored up to `maxBytes` and rejected with one byte more: %s', async (_, options) => {
    const { browser } = await start({ maxBytes: 2_000, ...options });
    const refused = JSON.parse((await browser.get('/save', headersFor(1_500))).body);
    const length = 1_500 - Math.ceil((sizeIn(refused.message) - 2_000) / 2);
    expect((await browser.get('/save', headersFor(length))).body).toBe('saved');
    const again = JSON.parse((await browser.get('/save', headersFor(length + 1))).body);
    expect(again.code).toBe('ERR_REDIS_KIT_SESSION_DATA');
    expect(sizeIn(again.message)).toBeLessThanOrEqual(2_002);
  });

  it('a save of a session above `maxBytes` rejects or calls back with the error, and the handler can continue', async () => {
    const { browser, errors } = await start({ maxBytes: 2_000 });
    await browser.get('/view');
    for (const path of ['/save', '/save-by-callback']) {
      const answer = await browser.get(path, headersFor(2_000));
      expect([answer.status, JSON.parse(answer.body)]).toEqual([
        200,
        {
          code: 'ERR_REDIS_KIT_SESSION_DATA',
          message: expect.stringMatching(/takes 4\d{3} bytes, more than `maxBytes` \(2000\)/),
        },
      ]);
      expect(await browser.data()).toEqual({ views: 1 });
    }
    expect(errors).toEqual([]);
  });

  it('a login with more data than `maxBytes` rejects, and the old session is kept', async () => {
    const { browser, kit } = await start({ maxBytes: 2_000 });
    await browser.get('/login');
    const before = browser.sessionId;
    const answer = await browser.get('/begin', headersFor(2_000));
    expect([answer.status, JSON.parse(answer.body).code]).toEqual([200, 'ERR_REDIS_KIT_SESSION_DATA']);
    expect(browser.sessionId).toBe(before);
    expect(await browser.data()).toEqual({ userId: 'ann' });
    expect(await kit.sessions.list('bob')).toEqual([]);
  });

  it('a save whose merged data is above `maxBytes` is rejected, and the change of the other request is kept', async () => {
    const held = heldRoute((req, res) => {
      Reflect.set(req.session, 'other', 'x'.repeat(1_200));
      res.end('done');
    });
    const { browser } = await start({ maxBytes: 2_000 }, { '/slow': held.route });
    await browser.get('/view');
    const slow = browser.begin('/slow');
    await held.entered;
    expect((await browser.get('/write', headersFor(600))).status).toBe(200);
    held.release();
    expect((await slow.answer()).status).toBe(500);
    expect(lengthOf(await browser.data())).toBe(600);
  });

  it('a session above `maxBytes` does not change the response with onError: anonymous', async () => {
    const { browser, errors } = await start({ maxBytes: 2_000, onError: 'anonymous' });
    const answer = await browser.get('/write', headersFor(2_000));
    expect([answer.status, answer.body, answer.header('set-cookie')]).toEqual([200, 'written', undefined]);
    expect(errors).toMatchObject([{ error: { code: 'ERR_REDIS_KIT_SESSION_DATA' } }]);
  });

  it('a stored session above `maxBytes` can be read, made smaller and destroyed', async () => {
    const kit = kitOf();
    const app = express().set('env', 'test');
    const [roomy, bounded] = [
      kit.session({ secret: SECRET }),
      kit.session({ secret: SECRET, maxBytes: 2_000 }),
    ];
    app.use((req, res, next) => (req.headers['x-roomy'] === undefined ? bounded : roomy)(req, res, next));
    const browser = new Browser(await serve(withRoutes(app, ROUTES)));
    await browser.get('/write', { headers: { 'X-Roomy': 'yes', 'X-Length': '2000' } });
    expect(lengthOf(await browser.data())).toBe(2_000);
    expect((await browser.get('/view')).status).toBe(500);
    expect((await browser.get('/write', headersFor(10))).body).toBe('written');
    expect(lengthOf(await browser.data())).toBe(10);
    await browser.get('/write', { headers: { 'X-Roomy': 'yes', 'X-Length': '2000' } });
    expect((await browser.get('/logout')).body).toBe('bye');
    expect(await browser.data()).toEqual({});
  });
});

describeOnBothEngines('a response whose session is too large', (url) => {
  it.each(APPS)(
    'the response of a request whose session is too large is replaced with 500 before any byte is sent, on %s',
    async (_name, makeApp) => {
      const kit = kitForTest({ url: url() });
      const routes: Routes = {
        '/stream': (req, res) => {
          req.session.note = 'x'.repeat(3_000);
          res.write('begun');
          res.end('ended');
        },
      };
      const port = await serveSessions(kit, { maxBytes: 2_000 }, { ...ROUTES, ...routes }, makeApp());
      const browser = new Browser(port);
      await browser.get('/view');
      for (const path of ['/write', '/stream']) {
        const answer = await browser.get(path, headersFor(2_000));
        expect([answer.status, JSON.parse(answer.body).detail]).toEqual([
          500,
          'The session cannot be stored.',
        ]);
        expect(answer.body).not.toContain('begun');
      }
      expect((await browser.get('/view')).body).toBe('2');
    },
  );
});

onEveryStore('kit.sessionStore with maxBytes', (kitOf) => {
  const FORMATS: readonly StoreOptions[] = [{}, { compatible: 'connect-redis' }];

  function storeOf(kit: RedisKit, options: StoreOptions) {
    const own = options.compatible === undefined ? {} : { prefix: `${kit.prefix}:sess:` };
    return kit.sessionStore({ ...options, ...own });
  }

  describe.each(FORMATS)('the format %j', (format) => {
    it('a `set` of a session above the limit calls back with the error, and the stored session is kept', async () => {
      const store = storeOf(kitOf(), { ...format, maxBytes: 2_000 });
      const [get, set] = [promisify(store.get.bind(store)), promisify(store.set.bind(store))] as [
        (id: string) => Promise<SessionData>,
        (id: string, session: object) => Promise<void>,
      ];
      const cookie = { originalMaxAge: null, path: '/' };
      await set('one', { cookie, note: 'small' });
      const stored = await get('one');
      await expect(set('one', { ...stored, note: 'é'.repeat(1_000) })).rejects.toMatchObject({
        code: 'ERR_REDIS_KIT_SESSION_DATA',
        message: expect.stringMatching(/takes 2\d{3} bytes, more than `maxBytes` \(2000\)/),
      });
      expect(await get('one')).toMatchObject({ note: 'small' });
      await expect(set('two', { cookie, note: 'é'.repeat(1_000) })).rejects.toThrow('`maxBytes`');
      expect(await get('two')).toBeNull();
    });

    it('the error of a session above the default limit of 1 MiB reaches the app through express-session', async () => {
      const store = storeOf(kitOf(), format);
      const session = expressSession({ store, secret: SECRET, resave: false, saveUninitialized: false });
      const app = express().set('env', 'test').use(session);
      const browser = new Browser(await serve(withRoutes(app, ROUTES)));
      await browser.get('/view');
      const answer = await browser.get('/save-by-callback', headersFor(MEBIBYTE));
      expect(JSON.parse(answer.body).code).toBe('ERR_REDIS_KIT_SESSION_DATA');
      expect(await browser.data()).toEqual({ views: 1 });
    });
  });
});

it.each([
  [0, /option `maxBytes` is 0; it must be a whole number from 1 to/],
  ['1mb', /option `maxBytes` is '1mb'/],
  [2 ** 30, /option `maxBytes` is 1073741824/],
])('the option `maxBytes` of kit.session and kit.sessionStore rejects %j', (maxBytes, message) => {
  const kit = kitForTest({ url: 'memory:' });
  const options = { maxBytes } as object;
  expect(() => kit.session({ secret: SECRET, ...options })).toThrow(message);
  expect(() => kit.sessionStore(options)).toThrow(message);
});
