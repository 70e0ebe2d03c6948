import { RedisStore } from 'connect-redis';
import express from 'express';
import expressSession from 'express-session';
import { createClient } from 'redis';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { SessionStore, StoreOptions } from '../../src/index.ts';
import { roundTrip, serve } from '../http/exchange.ts';
import { redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { onEveryStore } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { Browser, SECRET, withRoutes } from './browser.ts';

const CONNECT_REDIS = { compatible: 'connect-redis' } as const;
const FORMATS: readonly StoreOptions[] = [{}, CONNECT_REDIS];

/** A call of a store method, with or without a callback. */
type Call = (...args: unknown[]) => unknown;

function callOf(store: object, name: string): Call {
  return (...args) => Reflect.apply(Reflect.get(store, name), store, args);
}

/** All that a caller can observe of a call with a callback and of a call without one. */
async function observe(store: object, name: string, ...args: unknown[]) {
  const call = callOf(store, name);
  const calls: unknown[][] = [];
  const alone = await outcomeOf(call(...args));
  const returned = await outcomeOf(
    call(...args, (...given: unknown[]) => {
      calls.push(given);
      return 'from the callback';
    }),
  );
  return { alone, calls: calls.map(([error, value]) => [error === null, value]), returned };
}

async function outcomeOf(work: unknown): Promise<unknown> {
  expect(work).toBeInstanceOf(Promise);
  try {
    return { resolved: await work };
  } catch (error) {
    return { rejected: error instanceof Error };
  }
}

function storeOf(kit: ReturnType<typeof kitForTest>, options: StoreOptions): SessionStore {
  const own = options.compatible === undefined ? {} : { prefix: `${kit.prefix}:sess:` };
  return kit.sessionStore({ ...options, ...own });
}

describe('the promises of connect-redis and of the kit', () => {
  const COOKIE = { originalMaxAge: null, path: '/' };
  const CALLS: readonly (readonly [name: string, ...args: unknown[]])[] = [
    ['get', 'none'],
    ['set', 'one', { cookie: COOKIE, n: 1 }],
    ['get', 'one'],
    ['touch', 'one', { cookie: COOKIE, n: 1 }],
    ['touch', 'none', { cookie: COOKIE }],
    ['set', 'ended', { cookie: { ...COOKIE, expires: new Date(0) } }],
    ['ids'],
    ['length'],
    ['all'],
    ['destroy', 'one'],
    ['destroy', 'one'],
    ['clear'],
    ['length'],
    ['all'],
  ];

  it('each call to a store with `compatible` resolves and calls back as with connect-redis', async () => {
    const client = createClient({ url: redisUrl() });
    await client.connect();
    onTestFinished(() => client.destroy());
    const theirs = new RedisStore({ client, prefix: `${testPrefix()}:sess:` });
    const ours = storeOf(kitForTest({ url: redisUrl() }), CONNECT_REDIS);
    for (const call of CALLS) {
      const [expected, actual] = [await observe(theirs, ...call), await observe(ours, ...call)];
      expect({ call, ...actual }).toEqual({ call, ...expected });
    }
  });

  it('a failed call rejects, or with a callback calls back and does not reject, as with connect-redis', async () => {
    const client = createClient({ url: redisUrl() });
    await client.connect();
    const theirs = new RedisStore({ client, prefix: `${testPrefix()}:sess:` });
    client.destroy();
    const kit = kitForTest({ url: redisUrl() });
    const ours = storeOf(kit, CONNECT_REDIS);
    await kit.close();
    for (const call of CALLS) {
      const [expected, actual] = [await observe(theirs, ...call), await observe(ours, ...call)];
      const withoutValue = ({ calls, ...rest }: typeof actual) => ({
        ...rest,
        calls: calls.map(([isFine]) => isFine),
      });
      expect({ call, ...withoutValue(actual) }).toEqual({ call, ...withoutValue(expected) });
    }
  });
});

onEveryStore('kit.sessionStore', (kitOf) => {
  describe.each(FORMATS)('the format %j', (format) => {
    it('each method of the store resolves to its result without a callback', async () => {
      const store = storeOf(kitOf(), format);
      const cookie = new expressSession.Cookie();
      expect(await store.get('one')).toBeNull();
      expect(await store.set('one', { cookie })).toBeNull();
      expect(await store.get('one')).toMatchObject({ cookie: { path: '/' } });
      expect(await store.touch('one', { cookie })).toBeNull();
      expect(await store.ids()).toHaveLength(1);
      expect(await store.length()).toBe(1);
      expect(await store.all()).toMatchObject([{ id: expect.any(String), cookie: { path: '/' } }]);
      expect(await store.destroy('one')).toBeNull();
      expect(await store.clear()).toBeNull();
      expect(await store.length()).toBe(0);
    });

    it('the failure of a store call that is not awaited is emitted and does not end the process', async () => {
      const kit = kitOf();
      const errors = eventsOf(kit, 'error');
      const rejections: unknown[] = [];
      const noteRejection = (error: unknown) => void rejections.push(error);
      process.on('unhandledRejection', noteRejection);
      onTestFinished(() => void process.off('unhandledRejection', noteRejection));
      const store = storeOf(kit, format);
      await kit.close();
      void store.destroy('one');
      await until('the failure is emitted', () => errors.length === 1);
      expect(errors).toMatchObject([{ feature: 'session', error: { code: 'ERR_REDIS_KIT_CLOSED' } }]);
      // Node emits unhandled rejections after the microtasks.
      await new Promise((resolve) => setImmediate(resolve));
      expect(rejections).toEqual([]);
    });

    it('a callback of the store that throws is called once, and its error is an uncaught exception', async () => {
      const thrown: unknown[] = [];
      const before = process.listeners('uncaughtException');
      process.removeAllListeners('uncaughtException');
      process.on('uncaughtException', (error) => thrown.push(error));
      onTestFinished(() => {
        process.removeAllListeners('uncaughtException');
        for (const listener of before) process.on('uncaughtException', listener);
      });
      const store = storeOf(kitOf(), format);
      let calls = 0;
      void store.get('one', () => {
        calls++;
        throw new Error('on purpose');
      });
      await until('the error was thrown', () => thrown.length === 1);
      await store.get('one');
      expect([calls, thrown.length]).toEqual([1, 1]);
    });
  });
});

onEveryStore('req.sessionStore', (kitOf) => {
  it('the methods of req.sessionStore return promises as those of connect-redis do', async () => {
    const kit = kitOf();
    const app = express()
      .set('env', 'test')
      .use(kit.session({ secret: SECRET }));
    const routes = {
      '/other': async (req: express.Request, res: express.Response) => {
        const call = (name: string, ...args: unknown[]) => callOf(req.sessionStore, name)(...args);
        const id = String(req.headers['x-id']);
        const found = await call('get', id);
        const ended = await call('destroy', id);
        res.json({ found, ended, after: await call('get', id) });
      },
    };
    const port = await serve(withRoutes(app, routes));
    const [admin, browser] = [new Browser(port), new Browser(port)];
    await browser.get('/view');
    const answer = await admin.get('/other', { headers: { 'X-Id': browser.sessionId } });
    expect(JSON.parse(answer.body)).toMatchObject({ found: { views: 1 }, ended: null, after: null });
    expect(await browser.data()).toEqual({});
    await roundTrip(port);
  });
});
