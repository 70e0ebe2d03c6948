import type { Request, Response } from 'express';
import { expect, it, onTestFinished } from 'vitest';
import type { RedisKit, SessionOptions } from '../../src/index.ts';
import { Gate } from '../http/exchange.ts';
import { redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { connectPlainClient } from '../support/plain-client.ts';
import { onEveryStore } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { Browser, type Routes, serveSessions } from './browser.ts';

const ROUTES: Routes = {
  '/in': async (req: Request, res: Response) => {
    try {
      await req.session.login(String(req.query.user ?? 'ann'));
      res.end('in');
    } catch (error) {
      res.status(409).end((error as { code?: string }).code);
    }
  },
  '/out': async (req: Request, res: Response) => {
    await req.session.logout();
    res.end('out');
  },
};

onEveryStore('kit.sessions', (kitOf) => {
  async function start(options: SessionOptions = {}, routes: (kit: RedisKit) => Routes = () => ({})) {
    const kit = kitOf();
    const port = await serveSessions(kit, options, { ...ROUTES, ...routes(kit) });
    const login = async (user = 'ann', headers = {}) => {
      const browser = new Browser(port);
      const answer = await browser.get(`/in?user=${user}`, { headers });
      return Object.assign(browser, { answer });
    };
    return { kit, port, login };
  }

  it('the list of a user has the sessions oldest first, with handles that do not reveal the session ids', async () => {
    const { kit, login } = await start({ idle: '1h', absolute: '2h' });
    const before = Date.now() - 1_000;
    const phone = await login('ann', { 'User-Agent': 'A phone' });
    await new Promise((resolve) => setTimeout(resolve, 5));
    const laptop = await login('ann', { 'User-Agent': `A laptop ${'x'.repeat(1_000)}` });
    for (const browser of [phone, laptop]) await browser.get('/view', { headers: { 'User-Agent': 'Other' } });
    await login('bob');
    const sessions = await kit.sessions.list('ann');
    expect(sessions.map(({ userAgent }) => userAgent?.slice(0, 8))).toEqual(['A phone', 'A laptop']);
    expect(sessions[1]?.userAgent).toHaveLength(256);
    for (const { handle, createdAt, lastSeenAt, expiresAt, ip } of sessions) {
      expect(ip).toMatch(/127\.0\.0\.1$/);
      expect(Number(createdAt)).toBeGreaterThan(before);
      expect(Number(lastSeenAt)).toBeGreaterThanOrEqual(Number(createdAt));
      expect(Number(expiresAt) - Number(lastSeenAt)).toBe(3_600_000);
      expect([phone.sessionId, laptop.sessionId]).not.toContain(handle);
    }
    expect(await kit.sessions.list('zoe')).toEqual([]);
    expect([await kit.sessions.count('ann'), await kit.sessions.count('bob')]).toEqual([2, 1]);
    expect(await kit.sessions.count('zoe')).toBe(0);
    expect(await kit.sessions.count()).toBe(3);
    expect(await kit.namespace('other').sessions.list('ann')).toEqual([]);
  });

  it('a session whose `userId` the handler has set is listed as soon as it is saved', async () => {
    const { kit, port } = await start();
    const browser = new Browser(port);
    await browser.get('/login');
    expect(await browser.data()).toEqual({ userId: 'ann' });
    expect(await kit.sessions.list('ann')).toMatchObject([{ ip: '127.0.0.1' }]);
    expect(await kit.sessions.count()).toBe(1);
  });

  it('a revoked session ends at once', async () => {
    const { kit, login } = await start();
    const [first, second] = [await login(), await login()];
    const [{ handle } = { handle: '' }] = await kit.sessions.list('ann');
    const revoked = eventsOf(kit, 'session:revoked');
    expect(await kit.sessions.revoke(handle)).toBe(true);
    expect(await kit.sessions.revoke(handle)).toBe(false);
    expect(revoked).toEqual([{ handle }]);
    expect(await first.data()).toEqual({});
    expect(await second.data()).toEqual({ userId: 'ann' });
    expect(await kit.sessions.count('ann')).toBe(1);
  });

  it.each(['', 'x', '*', '{', `*${'x'.repeat(43)}`, 7 as unknown as string])(
    'a call of `revoke` with the handle %j revokes no session',
    async (handle) => {
      const { kit } = await start();
      expect(await kit.sessions.revoke(handle)).toBe(false);
    },
  );

  it('a call of `revokeAll` ends all sessions of the user, or all but the session named by `except`', async () => {
    const { kit, login } = await start({}, (ownKit) => ({
      '/others': async (req, res) => {
        const except = ownKit.sessions.handleOf(req);
        res.end(String(await ownKit.sessions.revokeAll('ann', { except })));
      },
    }));
    const browsers = [await login(), await login(), await login()] as const;
    const bob = await login('bob');
    expect((await browsers[1].get('/others')).body).toBe('2');
    expect(await Promise.all(browsers.map((browser) => browser.data()))).toEqual([{}, { userId: 'ann' }, {}]);
    expect(await kit.sessions.revokeAll('ann')).toBe(1);
    expect(await kit.sessions.revokeAll('ann')).toBe(0);
    expect(await browsers[1].data()).toEqual({});
    expect(await bob.data()).toEqual({ userId: 'bob' });
  });

  it('a call of `revokeAll` while a session switches to another user does not end the session of that user', async () => {
    const { kit, login } = await start({}, (ownKit) => ({
      '/switch': async (req, res) => {
        req.session.userId = 'bob';
        const saved = req.session.save();
        const revoked = await ownKit.sessions.revokeAll('ann');
        await saved;
        res.end(String(revoked));
      },
    }));
    const browser = await login('ann');
    expect((await browser.get('/switch')).body).toBe('0');
    expect(await browser.data()).toEqual({ userId: 'bob' });
    expect([await kit.sessions.count('ann'), await kit.sessions.count('bob')]).toEqual([0, 1]);
  });

  it('the method `handleOf` returns the handle of a request’s session, or undefined if it is not stored', async () => {
    const handles: (string | undefined)[] = [];
    const { kit, port, login } = await start({}, (ownKit) => ({
      '/mine': (req, res) => {
        handles.push(ownKit.sessions.handleOf(req));
        res.end();
      },
    }));
    await new Browser(port).get('/mine');
    const browser = await login();
    await browser.get('/mine');
    const [{ handle } = { handle: '' }] = await kit.sessions.list('ann');
    expect(handles).toEqual([undefined, handle]);
  });

  it('a call of kit.sessions with an invalid user id rejects', async () => {
    const { sessions } = kitOf();
    for (const user of ['', undefined, null, 7] as string[]) {
      await expect(sessions.list(user)).rejects.toThrow("the user's id is");
      await expect(sessions.revokeAll(user)).rejects.toThrow("the user's id is");
    }
    await expect(sessions.revokeAll('ann', { but: 'x' } as never)).rejects.toThrow('unknown option `but`');
  });

  it('a request in progress does not store a revoked session again', async () => {
    const [inside, gate] = [new Gate(), new Gate()];
    const { kit, login } = await start({}, () => ({
      '/slow': async (req, res) => {
        inside.open();
        await gate.promise;
        req.session.note = 'late';
        res.end('done');
      },
    }));
    const conflicts = eventsOf(kit, 'session:conflict');
    const browser = await login();
    const slow = browser.begin('/slow');
    await inside.promise;
    expect(await kit.sessions.revokeAll('ann')).toBe(1);
    gate.open();
    expect((await slow.answer()).header('set-cookie')).toBeUndefined();
    expect(conflicts).toHaveLength(1);
    expect(await browser.data()).toEqual({});
    expect(await kit.sessions.list('ann')).toEqual([]);
  });

  it('the session of a login during a `revokeAll` is either alive and listed, or ended and not listed', async () => {
    const { kit, login } = await start();
    for (let round = 0; round < 10; round++) {
      const [browser] = await Promise.all([login(), kit.sessions.revokeAll('ann')]);
      const isAlive = JSON.stringify(await browser.data()) === '{"userId":"ann"}';
      expect(await kit.sessions.count('ann')).toBe(isAlive ? 1 : 0);
      await kit.sessions.revokeAll('ann');
      expect(await browser.data()).toEqual({});
    }
  });

  it('the option `maxPerUser` with `evict-oldest` revokes the oldest sessions of the user for a new session', async () => {
    const { kit, login } = await start({ maxPerUser: { limit: 2, onExceed: 'evict-oldest' } });
    const revoked = eventsOf(kit, 'session:revoked');
    const browsers = [];
    for (let count = 0; count < 4; count++) {
      browsers.push(await login());
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const alive = await Promise.all(browsers.map((browser) => browser.data()));
    expect(alive).toEqual([{}, {}, { userId: 'ann' }, { userId: 'ann' }]);
    expect(await kit.sessions.count('ann')).toBe(2);
    expect(revoked).toHaveLength(2);
  });

  it('a login above `maxPerUser` is rejected until a session of the user has ended', async () => {
    const { kit, port, login } = await start({ maxPerUser: { limit: 1, onExceed: 'reject' } });
    const first = await login();
    const second = new Browser(port);
    await second.get('/view');
    expect((await second.get('/in')).body).toBe('ERR_REDIS_KIT_SESSION_LIMIT');
    expect(await second.data()).toEqual({ views: 1 });
    expect((await login('bob')).answer.body).toBe('in');
    await first.get('/out');
    expect((await second.get('/in')).body).toBe('in');
    // A session that has ended but is still in the index does not count.
    const [{ handle } = { handle: '' }] = await kit.sessions.list('ann');
    await new Promise((resolve) => kit.sessionStore().clear(resolve));
    expect(handle).not.toBe('');
    expect((await login()).answer.body).toBe('in');
    expect(await kit.sessions.count('ann')).toBe(1);
  });

  it('a corrupt index of a user’s sessions is reported and replaced by an empty index', async () => {
    if (kitOf().client === null) return;
    const { kit, login } = await start();
    const errors = eventsOf(kit, 'error');
    await login();
    const client = kit.client as { set(key: string, value: string, options: object): Promise<unknown> };
    const { Keys } = await import('../../src/base/keys.ts');
    const keys = new Keys(kit.prefix);
    await client.set(keys.userSessions(keys.sessionOwner('ann')), 'x', { PX: 60_000 });
    const browser = await login();
    expect(await browser.data()).toEqual({ userId: 'ann' });
    expect(await kit.sessions.count('ann')).toBe(1);
    expect(errors[0]?.error).toMatchObject({ code: 'ERR_REDIS_KIT_CORRUPT' });
  });
});

it('a call of `list` removes ended sessions from the index of the user', async () => {
  const kit = kitForTest({ url: redisUrl() });
  const browser = new Browser(await serveSessions(kit, {}, ROUTES));
  await browser.get('/in');
  const client = await connectPlainClient(redisUrl());
  onTestFinished(() => client.destroy());
  await client.del(browser.keyIn(kit));
  expect(await client.keys(`${kit.prefix}*`)).toHaveLength(1);
  expect(await kit.sessions.list('ann')).toEqual([]);
  expect(await client.keys(`${kit.prefix}*`)).toEqual([]);
});

it('no Redis key is left after all sessions of a user have expired', async () => {
  const kit = kitForTest({ url: redisUrl() });
  const created = eventsOf(kit, 'session:created');
  const port = await serveSessions(kit, { idle: 200, touchAfter: 20 }, ROUTES);
  for (let count = 0; count < 3; count++) await new Browser(port).get('/in');
  const client = await connectPlainClient(redisUrl());
  onTestFinished(() => client.destroy());
  const keys = () => client.keys(`${kit.prefix}*`);
  expect(created).toHaveLength(3);
  await until('the keys have expired', async () => (await keys()).length === 0);
});

it('the index of a user lists a session until the session expires, and not longer', async () => {
  const clock = { time: 1_800_000_000_000, now: () => clock.time };
  const kit = kitForTest({ url: 'memory:', clock });
  const port = await serveSessions(kit, { idle: '10m', touchAfter: '1m' }, ROUTES);
  const browser = new Browser(port);
  await browser.get('/in');
  const minutes = (count: number) => {
    clock.time += count * 60_000;
  };
  // The sessions are used by reads only, then by writes only, for longer than the first TTL of the index.
  for (const path of ['/', '/view']) {
    for (let turn = 0; turn < 30; turn++) {
      minutes(path === '/' ? 3 : 0.5);
      await browser.get(path);
      await until('the session is listed', async () => (await kit.sessions.count('ann')) === 1);
    }
  }
  minutes(11.5);
  expect(await kit.sessions.count('ann')).toBe(0);
  expect(await kit.sessions.count()).toBe(0);
});
