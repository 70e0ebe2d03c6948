import express, { type Request, type Response } from 'express';
import expressSession from 'express-session';
import { beforeEach, describe, expect, it } from 'vitest';
import { memoryEngine } from '../../src/engine/memory-engine.ts';
import { MemoryKeyspace } from '../../src/engine/memory-keyspace.ts';
import type { SessionOptions, StoreOptions } from '../../src/index.ts';
import { sessionRead } from '../../src/session/operations/read.ts';
import { sessionWrite } from '../../src/session/operations/write.ts';
import { idleOf, type RecordSettings } from '../../src/session/record-settings.ts';
import { Gate, serve } from '../http/exchange.ts';
import { startBothEngines, TestClock } from '../support/both-engines.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { stopClock } from '../support/time.ts';
import { Browser, SECRET, serveSessions, withRoutes } from './browser.ts';

async function logIn(req: Request, res: Response): Promise<void> {
  await req.session.login('ann');
  res.end();
}

describe('a session on memory:', () => {
  // express-session computes `maxAge` from two readings of the clock: 1 ms too short if they differ by 1 ms.
  beforeEach(stopClock);

  async function start(options: SessionOptions, routes = {}) {
    const clock = new TestClock();
    const kit = kitForTest({ url: 'memory:', clock });
    const browser = new Browser(await serveSessions(kit, options, routes));
    await browser.get('/login');
    return { clock, kit, browser };
  }

  it('a session expires exactly after `idle` without use', async () => {
    const { clock, browser } = await start({ idle: '30m', touchAfter: 1 });
    for (let visit = 0; visit < 5; visit++) {
      clock.time += 30 * 60_000 - 1;
      expect(await browser.data()).toEqual({ userId: 'ann' });
    }
    clock.time += 30 * 60_000;
    expect(await browser.data()).toEqual({});
  });

  it('a session with `touchAfter: 0` expires exactly `idle` after its last use', async () => {
    const { clock, browser } = await start({ idle: '30m', touchAfter: 0 });
    for (const passed of [1, 30 * 60_000 - 1, 1, 1, 30 * 60_000 - 1]) {
      clock.time += passed;
      expect(await browser.data()).toEqual({ userId: 'ann' });
    }
    clock.time += 30 * 60_000;
    expect(await browser.data()).toEqual({});
  });

  it.each<StoreOptions>([{}, { compatible: 'connect-redis' }])(
    'a session under express-session with `touchAfter: 0` expires exactly `idle` after its last use: %j',
    async (format) => {
      const clock = new TestClock();
      const kit = kitForTest({ url: 'memory:', clock });
      const prefix = format.compatible === undefined ? undefined : `${kit.prefix}:sess:`;
      const store = kit.sessionStore({ ...format, prefix, idle: '30m', touchAfter: 0 });
      const session = expressSession({ store, secret: SECRET, resave: false, saveUninitialized: false });
      const app = express().set('env', 'test').use(session);
      const browser = new Browser(await serve(withRoutes(app, {})));
      await browser.get('/view');
      for (const passed of [20, 30 * 60_000 - 1, 20, 30 * 60_000 - 1]) {
        clock.time += passed;
        expect(await browser.data()).toEqual({ views: 1 });
      }
      clock.time += 30 * 60_000;
      expect(await browser.data()).toEqual({});
    },
  );

  it('a session expires at its absolute deadline, even if it is used and changed', async () => {
    const { clock, browser } = await start({ idle: '30m', absolute: '1h' });
    for (let minute = 10; minute < 60; minute += 10) {
      clock.time += 10 * 60_000;
      await browser.get('/view');
    }
    clock.time += 10 * 60_000 - 1;
    expect(await browser.data()).toMatchObject({ userId: 'ann' });
    clock.time += 1;
    expect(await browser.data()).toEqual({});
  });

  it('a regenerated session has a new absolute deadline', async () => {
    const { clock, browser } = await start({ idle: '30m', absolute: '1h' });
    clock.time += 20 * 60_000;
    await browser.data();
    clock.time += 20 * 60_000;
    await browser.get('/login');
    clock.time += 25 * 60_000;
    expect(await browser.data()).toEqual({ userId: 'ann' });
  });

  it('a save after most of the idle time starts the whole idle time of the session again', async () => {
    for (const options of [{ idle: '1h' }, { cookie: { maxAge: 3_600_000 } }] as const) {
      const { clock, browser } = await start({ ...options, touchAfter: '50m' });
      clock.time += 59 * 60_000;
      expect((await browser.get('/view')).body).toBe('1');
      clock.time += 59 * 60_000;
      expect((await browser.get('/view')).body).toBe('2');
      clock.time += 60 * 60_000;
      expect(await browser.data()).toEqual({});
    }
  });

  it('a session expires after the `maxAge` that its handler has set, and not after `idle`', async () => {
    const { clock, browser } = await start(
      { idle: '10m' },
      {
        '/stay': (req: Request, res: Response) => {
          req.session.cookie.maxAge = 3_600_000;
          req.session.note = 'stays';
          res.end();
        },
      },
    );
    await browser.get('/stay');
    clock.time += 3_600_000 - 1;
    expect(await browser.data()).toMatchObject({ note: 'stays' });
    clock.time += 3_600_000;
    expect(await browser.data()).toEqual({});
  });

  const MINUTE = 60_000;

  it.each<[string, SessionOptions]>([
    ['an object', { cookie: { maxAge: '1d' } }],
    ['a function', { cookie: () => ({ maxAge: '1d' }) }],
  ])(
    'a session whose cookie options are %s with a `maxAge` expires after the option `idle`',
    async (_, options) => {
      const { clock, browser } = await start({ idle: '10m', ...options }, { '/in': logIn });
      for (const path of ['/login', '/view', '/in']) {
        await browser.get(path);
        clock.time += 10 * MINUTE - 1;
        expect(await browser.data()).toMatchObject({ userId: 'ann' });
        clock.time += 10 * MINUTE;
        expect(await browser.data()).toEqual({});
        await browser.get('/login');
      }
    },
  );

  it('a session without the option `idle` expires after the `maxAge` that a cookie function returns', async () => {
    const { clock, browser } = await start({ cookie: () => ({ maxAge: '2h' }) });
    await browser.get('/view');
    clock.time += 120 * MINUTE - 1;
    expect(await browser.data()).toMatchObject({ userId: 'ann' });
    clock.time += 120 * MINUTE;
    expect(await browser.data()).toEqual({});
  });

  it('a session keeps its `idle` when it is saved after the `maxAge` of the options has changed', async () => {
    const { clock, kit, browser } = await start({ idle: '10m', cookie: { maxAge: '1d' } });
    const later = await serveSessions(kit, { idle: '10m', cookie: { maxAge: '7d' } });
    const restarted = Object.assign(new Browser(later), { cookies: browser.cookies });
    await restarted.get('/view');
    expect(await restarted.data()).toEqual({ userId: 'ann', views: 1 });
    clock.time += 10 * MINUTE;
    expect(await restarted.data()).toEqual({});
  });

  it.each<[string, SessionOptions]>([
    ['no `maxAge`', {}],
    ['a `maxAge`', { cookie: { maxAge: '1d' } }],
    ['a cookie function', { cookie: () => ({ maxAge: '1d' }) }],
    ['a cookie function without `maxAge`', { cookie: () => ({}) }],
  ])(
    'a session with %s in its options expires after the `maxAge` of its handler, also when it is saved again',
    async (_, options) => {
      const stay = (req: Request, res: Response) => {
        req.session.cookie.maxAge = 60 * MINUTE;
        req.session.note = 'stays';
        res.end();
      };
      const { clock, browser } = await start({ idle: '10m', ...options }, { '/stay': stay });
      // A stored session and a new one.
      for (const visitor of [browser, new Browser(browser.port)]) {
        await visitor.get('/stay');
        await visitor.get('/view');
        clock.time += 60 * MINUTE - 1;
        expect(await visitor.data()).toMatchObject({ note: 'stays', views: 1 });
        clock.time += 60 * MINUTE;
        expect(await visitor.data()).toEqual({});
      }
    },
  );

  it('a session that expires during a slow request is not stored again', async () => {
    const [inside, gate] = [new Gate(), new Gate()];
    const { clock, kit, browser } = await start(
      { idle: '30m' },
      {
        '/slow': async (req: { session: { note?: string } }, res: { end(): void }) => {
          inside.open();
          await gate.promise;
          req.session.note = 'late';
          res.end();
        },
      },
    );
    const conflicts = eventsOf(kit, 'session:conflict');
    const slow = browser.begin('/slow');
    await inside.promise;
    clock.time += 30 * 60_000;
    gate.open();
    expect((await slow.answer()).status).toBe(200);
    expect(conflicts).toHaveLength(1);
    expect(await browser.data()).toEqual({});
  });
});

describe('the stored session on both engines', () => {
  const HOUR = 3_600_000;
  const write = {
    mode: 'create',
    revision: 0,
    idle: HOUR,
    absolute: 0,
    touchAfter: 60_000,
    maxBytes: 1_000,
    owner: '',
    data: Buffer.from('{}'),
  } as const;

  async function onBoth(
    tests: (run: Awaited<ReturnType<typeof startBothEngines>>, key: string) => Promise<void>,
  ) {
    const both = await startBothEngines();
    try {
      await tests(both, `${both.prefix}:session:{one}`);
    } finally {
      await both.client.del(`${both.prefix}:session:{one}`);
      await both.stop();
    }
  }

  it('a read of a session writes only if it moves the idle deadline by at least `touchAfter`', () =>
    onBoth(async ({ clock, client, memory, redis, keyspace }, key) => {
      for (const engine of [memory, redis]) await engine.run(sessionWrite, [key], write);
      const states: string[] = [];
      for (const passed of [0, 59_999, 1, 30_000]) {
        clock.time += passed;
        const replies = [];
        for (const engine of [memory, redis]) {
          replies.push(await engine.run(sessionRead, [key], { touchAfter: 60_000, idle: HOUR }));
        }
        expect(replies[0]).toEqual(replies[1]);
        const value = (await client.withTypeMapping({ 36: Buffer }).get(key)) as unknown;
        expect(keyspace.get(key)).toEqual(value);
        states.push(String(replies[0]?.expires));
      }
      const start = clock.time - 90_000;
      expect(states).toEqual([HOUR, HOUR, HOUR + 60_000, HOUR + 60_000].map((span) => String(start + span)));
    }));

  it('a session expires at the deadline in its value, even if its TTL is longer', () =>
    onBoth(async ({ clock, client, redis }, key) => {
      await redis.run(sessionWrite, [key], write);
      await client.pExpire(key, 10 * HOUR);
      clock.time += HOUR;
      expect(await redis.run(sessionRead, [key], { touchAfter: 1, idle: HOUR })).toMatchObject({
        found: 'fine',
        data: null,
      });
      expect(await redis.run(sessionWrite, [key], { ...write, mode: 'update' })).toMatchObject({
        outcome: 'gone',
      });
      expect(await redis.run(sessionWrite, [key], write)).toMatchObject({ outcome: 'written' });
    }));

  it('the TTL of a session ends at its deadline', () =>
    onBoth(async ({ client, redis }, key) => {
      const clock = new TestClock();
      const keyspace = new MemoryKeyspace(clock);
      for (const engine of [memoryEngine(keyspace, clock), redis]) {
        await engine.run(sessionWrite, [key], { ...write, absolute: HOUR / 2 });
      }
      expect(keyspace.ttl(key)).toBe(HOUR / 2);
      const ttl = await client.pTTL(key);
      expect(ttl).toBeGreaterThan(HOUR / 2 - 10_000);
      expect(ttl).toBeLessThanOrEqual(HOUR / 2);
    }));
});

describe('the idle time of a session that an earlier version of the kit has stored', () => {
  const DAY = 86_400_000;

  it.each([
    ['the usual `maxAge`', DAY, DAY, 1_000],
    ['another `maxAge`', 7 * DAY, DAY, 7 * DAY],
    ['a `maxAge` that no option has set', DAY, undefined, DAY],
    ['the `maxAge` of a cookie function', DAY, 'varies' as const, 1_000],
  ])(
    'the idle time of a session with %s is that of its handler, or else `idle`',
    (_, maxAge, cookieMaxAge, expected) => {
      const meta = { cookie: { originalMaxAge: maxAge } };
      const settings = { idle: 1_000, followsCookie: false, cookieMaxAge } as RecordSettings;
      expect(idleOf(meta, settings)).toBe(expected);
    },
  );
});
