import type { Request, Response } from 'express';
import { expect, it, onTestFinished } from 'vitest';
import type { RedisKit, SessionOptions } from '../../src/index.ts';
import { Gate } from '../http/exchange.ts';
import { TestClock } from '../support/both-engines.ts';
import { describeWithServers, redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startRedis } from '../support/servers.ts';
import { onEveryStore } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { Browser, type Routes, serveSessions } from './browser.ts';

const ROUTES: Routes = {
  '/in': async (req, res) => {
    const error = await req.session.login(String(req.query.user ?? 'ann')).catch((thrown: unknown) => thrown);
    res.end(error === undefined ? 'in' : (error as { code: string }).code);
  },
};

async function startWith(kit: RedisKit, routes: Routes, options: SessionOptions = {}) {
  const port = await serveSessions(kit, options, { ...ROUTES, ...routes });
  const browser = new Browser(port);
  const copy = () => {
    const other = new Browser(port);
    for (const [name, value] of browser.cookies) other.cookies.set(name, value);
    return other;
  };
  return { kit, port, browser, copy };
}

onEveryStore('a session that has ended', (kitOf) => {
  it('a session that `req.sessionStore` has destroyed is not stored again', async () => {
    const { kit, browser, copy } = await startWith(kitOf(), {
      '/destroy': (req, res) => {
        req.sessionStore.destroy(req.sessionID, () => res.end('bye'));
      },
    });
    await browser.get('/in');
    const thief = copy();
    await browser.get('/destroy');
    expect(browser.cookies.size).toBe(0);
    expect(await thief.data()).toEqual({});
    expect(await kit.sessions.count()).toBe(0);
  });

  it.each(['login', 'logout', 'destroy', 'regenerate'] as const)(
    'a handler cannot store again the session that it had before %s()',
    async (method) => {
      const { kit, browser, copy } = await startWith(kitOf(), {
        '/hold': async (req, res) => {
          const before = req.session;
          await (before[method] as (user?: string) => Promise<void>)(method === 'login' ? 'bob' : undefined);
          before.note = 'back';
          await before.save();
          res.end();
        },
      });
      await browser.get('/in');
      const thief = copy();
      await browser.get('/hold');
      expect(await thief.data()).toEqual({});
      expect(await kit.sessions.list('ann')).toEqual([]);
      expect(await kit.sessions.count()).toBe(method === 'login' || method === 'regenerate' ? 1 : 0);
    },
  );

  it('a new session can begin after `destroy`', async () => {
    const { browser } = await startWith(kitOf(), {
      '/anew': async (req, res) => {
        const before = req.session;
        await before.destroy();
        await before.regenerate();
        req.session.note = 'anew';
        res.end();
      },
    });
    await browser.get('/in');
    const answer = await browser.get('/anew');
    expect(answer.headers.filter(([name]) => name.toLowerCase() === 'set-cookie')).toHaveLength(1);
    expect(await browser.data()).toEqual({ note: 'anew' });
  });
});

onEveryStore('a login', (kitOf) => {
  it('a login that the handler does not await is complete before the response is sent', async () => {
    const { kit, browser } = await startWith(kitOf(), {
      '/hasty': (req, res) => {
        void req.session.login('ann');
        res.end('in');
      },
      '/both': async (req, res) => {
        await Promise.all([req.session.login('bob'), req.session.logout()]);
        res.end();
      },
    });
    await browser.get('/view');
    await browser.get('/hasty');
    expect(await browser.data()).toEqual({ userId: 'ann' });
    await browser.get('/both');
    expect([await kit.sessions.list('bob'), await kit.sessions.count()]).toEqual([[], 0]);
  });

  it('a login after the response headers rejects and changes nothing', async () => {
    const { kit, browser } = await startWith(kitOf(), {
      '/late': async (req, res) => {
        res.write('a');
        const error = await req.session.login('bob').catch((thrown: unknown) => thrown);
        res.end((error as { code: string }).code);
      },
    });
    await browser.get('/in');
    expect((await browser.get('/late')).body).toContain('ERR_REDIS_KIT_LATE_SESSION');
    expect(await browser.data()).toEqual({ userId: 'ann' });
    expect(await kit.sessions.list('bob')).toEqual([]);
  });

  it.each(['evict-oldest', 'reject'] as const)(
    'a login that replaces a session of the same user counts as one session (%s)',
    async (onExceed) => {
      const limit = onExceed === 'reject' ? 1 : 2;
      const options = { maxPerUser: { limit, onExceed } };
      const { kit, browser, port } = await startWith(kitOf(), {}, options);
      const other = new Browser(port);
      if (limit === 2) await other.get('/in');
      for (let times = 0; times < 3; times++) expect((await browser.get('/in')).body).toBe('in');
      expect(await browser.data()).toEqual({ userId: 'ann' });
      if (limit === 2) expect(await other.data()).toEqual({ userId: 'ann' });
      expect(await kit.sessions.count('ann')).toBe(limit);
    },
  );

  it('a response with new session data after a logout sets one cookie', async () => {
    const { browser } = await startWith(kitOf(), {
      '/flash': async (req, res) => {
        await req.session.logout();
        req.session.note = 'flash';
        res.end();
      },
    });
    await browser.get('/in');
    const answer = await browser.get('/flash');
    expect(answer.headers.filter(([name]) => name.toLowerCase() === 'set-cookie')).toHaveLength(1);
    expect(await browser.data()).toEqual({ note: 'flash' });
  });

  it.each(['id', 'req'])(
    'a login with data named %s, a property of every session, is rejected',
    async (name) => {
      const { browser } = await startWith(kitOf(), {
        '/taken': async (req, res) => {
          const error = await req.session
            .login('ann', { data: { [name]: 1 } })
            .catch((thrown: unknown) => thrown);
          res.end((error as { code: string }).code);
        },
      });
      expect((await browser.get('/taken')).body).toBe('ERR_REDIS_KIT_CONFIG');
    },
  );
});

it.each([
  ['a number', 7],
  ['nothing', undefined],
  ['a promise', Promise.resolve('x')],
])('a `genid` that returns %s is an error that names the option', async (_, id) => {
  const kit = kitForTest({ url: 'memory:' });
  const { browser } = await startWith(kit, {}, { genid: () => id as unknown as string });
  const answer = await browser.get('/view');
  expect(answer.status).toBe(500);
  expect(answer.body).toContain('option `genid` returned');
});

it('a login evicts no live session while the index still has an ended session', async () => {
  const options: SessionOptions = { maxPerUser: { limit: 2, onExceed: 'evict-oldest' } };
  const { kit, browser, port } = await startWith(kitForTest({ url: redisUrl() }), {}, options);
  await browser.get('/in');
  const begun = Date.now();
  await until('the clock has moved', async () => Date.now() > begun + 1);
  const gone = new Browser(port);
  await gone.get('/in');
  await withPlainClient(redisUrl(), (client) => client.del(gone.keyIn(kit)));
  await new Browser(port).get('/in');
  expect(await browser.data()).toEqual({ userId: 'ann' });
  expect(await kit.sessions.count('ann')).toBe(2);
});

describeWithServers('a failure that no handler awaits', () => {
  it.each(['destroy', 'logout'] as const)(
    'a failure of %s() that the handler does not await is emitted',
    async (method) => {
      for (const trouble of ['refused', 'away'] as const) {
        const server = await startRedis();
        onTestFinished(() => server.stop());
        const kit = kitForTest({ url: server.url });
        const [errors, down] = [eventsOf(kit, 'error'), eventsOf(kit, 'connection:down')];
        const { browser } = await startWith(kit, {
          '/hasty': async (req, res) => {
            if (trouble === 'away') {
              await server.stop();
              await until('the kit is down', async () => down.length > 0);
            }
            void req.session[method]();
            res.end('done');
          },
        });
        await browser.get('/in');
        if (trouble === 'refused') {
          await withPlainClient(server.url, (client) =>
            client.sendCommand(['ACL', 'SETUSER', 'default', '-del']),
          );
        }
        expect((await browser.get('/hasty')).body).toBe('done');
        await until('the failure is emitted', () => errors.length > 0);
        const code = trouble === 'away' ? 'ERR_REDIS_KIT_CONNECTION' : 'ERR_REDIS_KIT_REPLY';
        expect(errors).toMatchObject([{ feature: 'session', error: { code } }]);
      }
    },
  );
});

it('session data under the name of a method of express-session does not break a request', async () => {
  const { browser } = await startWith(kitForTest({ url: 'memory:' }), {
    '/copy': (req, res) => {
      Object.assign(req.session, { touch: 1, resetMaxAge: 2, note: 'kept' });
      res.end('done');
    },
  });
  expect((await browser.get('/copy')).body).toBe('done');
  expect(await browser.data()).toEqual({ note: 'kept' });
});

function changing(life: number): Routes[string] {
  return (req: Request, res: Response) => {
    req.session.cookie.maxAge = life;
    res.end();
  };
}

it('a change of only the cookie’s `maxAge` is saved, and a later save of a slow request keeps it', async () => {
  const [inside, gate] = [new Gate(), new Gate()];
  const clock = new TestClock();
  const kit = kitForTest({ url: 'memory:', clock });
  const { browser } = await startWith(
    kit,
    {
      '/longer': changing(3_600_000),
      '/slow': async (req, res) => {
        inside.open();
        await gate.promise;
        req.session.note = 'late';
        res.end();
      },
    },
    { idle: '1m' },
  );
  await browser.get('/login');
  const slow = browser.begin('/slow');
  await inside.promise;
  await browser.get('/longer');
  gate.open();
  await slow.answer();
  clock.time += 3_000_000;
  expect(await browser.data()).toEqual({ userId: 'ann', note: 'late' });
});

it('a session whose lifetime is shorter than `touchAfter` stays alive while it is used', async () => {
  const clock = new TestClock();
  const kit = kitForTest({ url: 'memory:', clock });
  const { browser } = await startWith(kit, { '/short': changing(30_000) }, { idle: '1h', touchAfter: '5m' });
  await browser.get('/login');
  await browser.get('/short');
  for (let visit = 0; visit < 20; visit++) {
    clock.time += 20_000;
    expect(await browser.data()).toEqual({ userId: 'ann' });
  }
});

it('a login lasts as long as `remember`, even if `remember` equals the `maxAge` of the options, and at most `absolute`', async () => {
  const clock = new TestClock();
  const kit = kitForTest({ url: 'memory:', clock });
  const remember: Routes = {
    '/remember': async (req, res) => {
      await req.session.login('ann', { remember: '1h' });
      res.json(req.session.cookie.originalMaxAge);
    },
  };
  const { browser } = await startWith(kit, remember, { idle: '1m', cookie: { maxAge: 3_600_000 } });
  await browser.get('/remember');
  clock.time += 3_000_000;
  expect(await browser.data()).toEqual({ userId: 'ann' });
  const { browser: bounded } = await startWith(kit, remember, { idle: '1m', absolute: '2m' });
  expect(Number((await bounded.get('/remember')).body)).toBeLessThanOrEqual(120_000);
});
