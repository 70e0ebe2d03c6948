import { promisify } from 'node:util';
import { RedisStore } from 'connect-redis';
import express from 'express';
import expressSession, { type SessionData } from 'express-session';
import { createClient } from 'redis';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Keys } from '../../src/base/keys.ts';
import type { SessionStore, StoreOptions } from '../../src/index.ts';
import { Gate, serve } from '../http/exchange.ts';
import { describeWithServers, redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startRedis } from '../support/servers.ts';
import { onEveryStore } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { countCommands } from '../support/wire.ts';
import { Browser, type Routes, SECRET, withRoutes } from './browser.ts';

const CONNECT_REDIS = { compatible: 'connect-redis' } as const;

/** An app that uses express-session as its documentation shows. */
function serveWith(store: expressSession.Store, routes: Routes = {}, cookie = {}): Promise<number> {
  const session = expressSession({ store, cookie, secret: SECRET, resave: false, saveUninitialized: false });
  const app = express().set('env', 'test').use(session);
  return serve(withRoutes(app, routes));
}

function promises(store: SessionStore) {
  return {
    get: promisify(store.get.bind(store)) as (id: string) => Promise<SessionData | null>,
    set: promisify(store.set.bind(store)) as (id: string, session: object) => Promise<void>,
    touch: promisify(store.touch.bind(store) as never) as (id: string, session: object) => Promise<void>,
    destroy: promisify(store.destroy.bind(store)) as (id: string) => Promise<void>,
    all: promisify(store.all.bind(store) as never) as () => Promise<(SessionData & { id: string })[]>,
    ids: promisify(store.ids.bind(store)) as () => Promise<string[]>,
    length: promisify(store.length.bind(store) as never) as () => Promise<number>,
    clear: promisify(store.clear.bind(store) as never) as () => Promise<void>,
  };
}

onEveryStore('kit.sessionStore', (kitOf) => {
  for (const options of [{}, CONNECT_REDIS] as StoreOptions[]) {
    const name = options.compatible ?? 'the kit’s format';
    const storeOf = () => {
      const kit = kitOf();
      const own = options.compatible === undefined ? {} : { prefix: `${kit.prefix}:sess:` };
      return { kit, store: kit.sessionStore({ ...options, ...own }) };
    };

    it(`kit.sessionStore works under express-session (${name})`, async () => {
      const { store } = storeOf();
      const browser = new Browser(await serveWith(store));
      for (const views of ['1', '2']) expect((await browser.get('/view')).body).toBe(views);
      const before = browser.sessionId;
      await browser.get('/login');
      expect(browser.sessionId).not.toBe(before);
      expect(await browser.data()).toEqual({ userId: 'ann' });
      await browser.get('/logout');
      expect(await browser.data()).toEqual({});
    });

    it(`each method of kit.sessionStore works and calls its callback once (${name})`, async () => {
      const { store } = storeOf();
      const { get, set, touch, destroy, all, ids, length, clear } = promises(store);
      const cookie = { originalMaxAge: null, path: '/' };
      expect(await get('one')).toBeNull();
      await set('one', { cookie, n: 1 });
      await set('one', { cookie, n: 2 });
      await set('two', { cookie, list: [] });
      expect(await get('one')).toMatchObject({ n: 2, cookie: { path: '/' } });
      await touch('one', { cookie, n: 2 });
      await touch('none', { cookie });
      expect(await get('none')).toBeNull();
      expect(await length()).toBe(2);
      const names = await ids();
      expect(names).toHaveLength(2);
      if (options.compatible !== undefined) expect(names.sort()).toEqual(['one', 'two']);
      const sessions = await all();
      expect(sessions.map(({ id }) => id).sort()).toEqual(names.sort());
      expect(sessions).toContainEqual(expect.objectContaining({ list: [] }));
      await destroy('one');
      await destroy('one');
      expect(await get('one')).toBeNull();
      await clear();
      expect(await length()).toBe(0);
    });
  }

  it('a store in the kit’s format merges parallel changes and does not store an ended session again', async () => {
    const [inside, gate] = [new Gate(), new Gate()];
    const kit = kitOf();
    const conflicts = eventsOf(kit, 'session:conflict');
    const routes: Routes = {
      '/slow': async (req, res) => {
        inside.open();
        await gate.promise;
        req.session.note = 'late';
        res.end();
      },
    };
    const browser = new Browser(await serveWith(kit.sessionStore(), routes));
    await browser.get('/view');
    const slow = browser.begin('/slow');
    await inside.promise;
    await browser.get('/view');
    gate.open();
    await slow.answer();
    expect(await browser.data()).toEqual({ views: 2, note: 'late' });
    expect(conflicts).toEqual([]);
  });

  it('a store in the kit’s format shares its sessions with kit.session', async () => {
    const kit = kitOf();
    const store = kit.sessionStore();
    const theirs = new Browser(await serveWith(store));
    await theirs.get('/view');
    const app = express()
      .set('env', 'test')
      .use(kit.session({ secret: SECRET }));
    const ours = new Browser(await serve(withRoutes(app, {})));
    for (const [name, value] of theirs.cookies) ours.cookies.set(name, value);
    expect((await ours.get('/view')).body).toBe('2');
    expect((await theirs.get('/view')).body).toBe('3');
  });
});

describe('a compatible store and connect-redis on the same keys', () => {
  async function bothStores(cookie = {}) {
    const client = createClient({ url: redisUrl() });
    await client.connect();
    onTestFinished(() => client.destroy());
    const prefix = `${testPrefix()}:sess:`;
    const kit = kitForTest({ url: redisUrl() });
    const errors = eventsOf(kit, 'error');
    const theirs = new RedisStore({ client, prefix });
    const ours = kit.sessionStore({ ...CONNECT_REDIS, prefix });
    const [before, after] = [await serveWith(theirs, {}, cookie), await serveWith(ours, {}, cookie)];
    return { client, prefix, kit, ports: { theirs: before, ours: after }, errors, store: ours };
  }

  function moved(browser: Browser, port: number): Browser {
    const other = new Browser(port);
    for (const [name, value] of browser.cookies) other.cookies.set(name, value);
    return other;
  }

  it.each([
    ['without', {}],
    ['with', { maxAge: 3_600_000 }],
  ])('users stay logged in when an app switches to and from connect-redis %s a maxAge', async (_, cookie) => {
    const { ports, client, prefix, errors } = await bothStores(cookie);
    const theirs = new Browser(ports.theirs);
    await theirs.get('/login');
    await theirs.get('/view');
    const ours = moved(theirs, ports.ours);
    expect(await ours.data()).toEqual({ userId: 'ann', views: 1 });
    expect((await ours.get('/view')).body).toBe('2');
    const back = moved(ours, ports.theirs);
    expect((await back.get('/view')).body).toBe('3');
    expect(await ours.data()).toEqual({ userId: 'ann', views: 3 });
    const ttl = await client.ttl(prefix + ours.sessionId);
    const life = 'maxAge' in cookie ? 3_600 : 86_400;
    expect(ttl).toBeGreaterThan(life - 60);
    expect(ttl).toBeLessThanOrEqual(life);
    await ours.get('/logout');
    expect(await back.data()).toEqual({});
    expect(errors).toEqual([]);
  });

  it('a stored value that cannot be read counts as no session, and is reported', async () => {
    const { ports, client, prefix, errors, store } = await bothStores();
    const browser = new Browser(ports.ours);
    await browser.get('/view');
    const key = prefix + browser.sessionId;
    for (const value of ['', '{', '[]', 'null', '{"views":1}', '{"cookie":1}']) {
      await client.set(key, value, { PX: 60_000 });
      expect(await promises(store).get(browser.sessionId)).toBeNull();
    }
    await client.del(key);
    await client.rPush(key, 'a list');
    await client.pExpire(key, 60_000);
    expect(await promises(store).get(browser.sessionId)).toBeNull();
    expect(errors).toHaveLength(1);
  });

  it('connect-redis and a compatible store list the same sessions', async () => {
    const { ports, store } = await bothStores();
    const [one, two] = [new Browser(ports.theirs), new Browser(ports.ours)];
    await one.get('/view');
    await two.get('/view');
    const ids = [one.sessionId, two.sessionId].sort();
    expect((await promises(store).ids()).sort()).toEqual(ids);
    expect((await promises(store).all()).map(({ id }) => id).sort()).toEqual(ids);
  });
});

describe.each([
  ['the kit’s format', {}],
  ['the connect-redis format', CONNECT_REDIS],
])('the method touch (%s)', (_, options) => {
  const LIFE_MS = 8_000;
  const DAY_MS = 86_400_000;
  /** The tolerance of times that are rounded to milliseconds, here and in Redis. */
  const SLACK_MS = 10;

  async function start(life = LIFE_MS) {
    const kit = kitForTest({ url: redisUrl() });
    const prefix = `${kit.prefix}:sess:`;
    const isPlain = 'compatible' in options;
    const store = promises(kit.sessionStore({ ...options, ...(isPlain ? { prefix } : {}) }));
    const key = isPlain ? `${prefix}one` : new Keys(kit.prefix).session('one');
    await store.set('one', { cookie: cookieFor(life) });
    const session = (await store.get('one')) as SessionData;
    const ttl = () => withPlainClient(redisUrl(), (client) => client.pTTL(key));
    const touch = (ms: number) => store.touch('one', Object.assign(session, { cookie: cookieFor(ms) }));
    return { ttl, touch };
  }

  function cookieFor(ms: number) {
    return { path: '/', originalMaxAge: ms, expires: new Date(Date.now() + ms) };
  }

  it('a touch moves the expiry of a session whose lifetime is shorter than `touchAfter`', async () => {
    const { ttl, touch } = await start();
    await until('part of the lifetime has passed', async () => (await ttl()) < LIFE_MS - 600);
    const touchedAt = performance.now();
    await touch(LIFE_MS);
    const left = await ttl();
    expect(left).toBeGreaterThan(LIFE_MS - (performance.now() - touchedAt) - SLACK_MS);
  });

  it('a touch applies a new `maxAge` of the cookie, longer or shorter', async () => {
    const { ttl, touch } = await start(DAY_MS);
    for (const ms of [3_600_000, DAY_MS, 60_000, LIFE_MS]) {
      const touchedAt = performance.now();
      await touch(ms);
      const left = await ttl();
      expect(left).toBeLessThanOrEqual(ms);
      expect(left).toBeGreaterThan(ms - (performance.now() - touchedAt) - SLACK_MS);
    }
  });
});

describeWithServers('the commands of the store under express-session', () => {
  it.each([
    ['the kit’s format', {}],
    ['the connect-redis format', CONNECT_REDIS],
  ])('a request that only reads the session costs one command (%s)', async (_, options) => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const kit = kitForTest({ url: server.url });
    await kit.ready();
    const browser = new Browser(await serveWith(kit.sessionStore(options)));
    await browser.get('/view');
    await browser.get('/view');
    expect(await countCommands(server.url, () => browser.get('/'))).toHaveLength(1);
    expect(await countCommands(server.url, () => browser.get('/view'))).toHaveLength(2);
  });
});

it.each([
  [{ prefix: 'x' }, /`prefix` is 'x'; only `compatible: 'connect-redis'` has one/],
  [{ compatible: 'redis' }, /`compatible` is 'redis'; it must be one of 'connect-redis'/],
  [{ idle: 0 }, /`idle` is 0/],
  [{ touchAfter: '1h' }, /`touchAfter` is '1h'; it must be shorter than `idle`/],
  [{ ttl: 5 }, /unknown option `ttl`/],
  [{ ...CONNECT_REDIS, prefix: '' }, /`prefix` is ''/],
])('an invalid option of kit.sessionStore is an error: %j', (options, message) => {
  const kit = kitForTest({ url: 'memory:' });
  expect(() => kit.sessionStore(options as StoreOptions)).toThrow(message);
});
