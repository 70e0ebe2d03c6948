import type { Request, Response } from 'express';
import { expect, it } from 'vitest';
import type { LoginOptions, SessionOptions } from '../../src/index.ts';
import { eventsOf } from '../support/kits.ts';
import { onEveryStore } from '../support/stores.ts';
import { Browser, dataOf, type Routes, serveSessions } from './browser.ts';

/** `/in/<user>?<login options as JSON>`, and `/out`. */
function loginRoutes(users: readonly string[] = ['ann', 'bob'], options: LoginOptions = {}): Routes {
  const login = (user: string) => async (req: Request, res: Response) => {
    try {
      await req.session.login(user, options);
      res.json(dataOf(req));
    } catch (error) {
      res.status(500).json({ code: (error as { code?: string }).code, still: dataOf(req) });
    }
  };
  return {
    ...Object.fromEntries(users.map((user) => [`/in/${user}`, login(user)])),
    '/out': async (req, res) => {
      await req.session.logout();
      res.json(dataOf(req));
    },
  };
}

onEveryStore('req.session', (kitOf) => {
  async function start(routes: Routes = {}, options: SessionOptions = {}) {
    const kit = kitOf();
    const port = await serveSessions(kit, options, routes);
    return { kit, port, browser: new Browser(port) };
  }

  function thiefOf(browser: Browser): Browser {
    const thief = new Browser(browser.port);
    for (const [name, value] of browser.cookies) thief.cookies.set(name, value);
    return thief;
  }

  it('a login creates a session with a new id, and destroys the old session', async () => {
    const { kit, browser } = await start(loginRoutes(['ann'], { data: { role: 'admin' } }));
    const rotated = eventsOf(kit, 'session:rotated');
    await browser.get('/view');
    const thief = thiefOf(browser);
    const before = browser.sessionId;
    const answer = await browser.get('/in/ann');
    expect(JSON.parse(answer.body)).toEqual({ userId: 'ann', role: 'admin' });
    expect(browser.sessionId).not.toBe(before);
    expect(await browser.data()).toEqual({ userId: 'ann', role: 'admin' });
    expect(await thief.data()).toEqual({});
    expect(rotated).toEqual([{ handle: expect.any(String), previous: expect.any(String) }]);
    const [{ handle } = { handle: '' }] = await kit.sessions.list('ann');
    expect(rotated[0]?.handle).toBe(handle);
    expect(rotated[0]?.previous).not.toBe(handle);
  });

  it('a logout destroys the session, removes it from the list of its user and clears the cookie', async () => {
    const { kit, browser } = await start(loginRoutes());
    const destroyed = eventsOf(kit, 'session:destroyed');
    await browser.get('/in/ann');
    const thief = thiefOf(browser);
    const answer = await browser.get('/out');
    expect(answer.body).toBe('{}');
    expect(answer.header('set-cookie')).toMatch(
      /^connect\.sid=; Path=\/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Lax$/,
    );
    expect(browser.cookies.size).toBe(0);
    expect(await thief.data()).toEqual({});
    expect(await kit.sessions.list('ann')).toEqual([]);
    expect(destroyed).toHaveLength(1);
  });

  it('the session after a logout is empty, and is stored only if the handler writes data to it', async () => {
    const { kit, browser } = await start({
      ...loginRoutes(),
      '/goodbye': async (req, res) => {
        await req.session.logout();
        req.session.note = 'see you';
        res.end();
      },
    });
    const created = eventsOf(kit, 'session:created');
    await browser.get('/in/ann');
    await browser.get('/goodbye');
    expect(await browser.data()).toEqual({ note: 'see you' });
    await browser.get('/in/ann');
    await browser.get('/out');
    expect(created).toHaveLength(3);
  });

  it('a login after a logout in the same request sets one cookie', async () => {
    const { browser } = await start({
      ...loginRoutes(),
      '/switch': async (req, res) => {
        await req.session.logout();
        await req.session.login('bob');
        res.end();
      },
    });
    await browser.get('/in/ann');
    const answer = await browser.get('/switch');
    expect(answer.headers.filter(([name]) => name.toLowerCase() === 'set-cookie')).toHaveLength(1);
    expect(await browser.data()).toEqual({ userId: 'bob' });
  });

  it('a login after a save that the handler does not await causes no conflict', async () => {
    const { kit, browser } = await start({
      '/hasty': async (req, res) => {
        req.session.note = 'hasty';
        req.session.save();
        await req.session.login('ann');
        res.end();
      },
    });
    const events = [eventsOf(kit, 'session:conflict'), eventsOf(kit, 'error')];
    await browser.get('/view');
    await browser.get('/hasty');
    expect(await browser.data()).toEqual({ userId: 'ann' });
    expect(await kit.sessions.count()).toBe(1);
    await new Browser(browser.port).get('/hasty');
    expect(await kit.sessions.count()).toBe(2);
    expect(events.flat()).toEqual([]);
  });

  it('the cookie of a login has Max-Age and Expires only with `remember`', async () => {
    const { browser } = await start(loginRoutes());
    expect((await browser.get('/in/ann')).header('set-cookie')).not.toMatch(/Max-Age|Expires/);
  });

  it('a login with `remember` keeps the cookie and the session for that time, even if `idle` is shorter', async () => {
    const { kit, browser } = await start(loginRoutes(['ann'], { remember: '30d' }), { idle: '1m' });
    const day = 86_400_000;
    const cookie = (await browser.get('/in/ann')).header('set-cookie') ?? '';
    const expires = Date.parse(/Expires=([^;]+)/.exec(cookie)?.[1] ?? '');
    expect(Math.abs(expires - Date.now() - 30 * day)).toBeLessThan(60_000);
    await browser.get('/view');
    const [info] = await kit.sessions.list('ann');
    expect(Math.abs(Number(info?.expiresAt) - Date.now() - 30 * day)).toBeLessThan(60_000);
  });

  it.each([
    ['an empty user id', '', {}],
    ['a number as user id', 7 as unknown as string, {}],
    ['an unknown option', 'ann', { remeber: '1d' } as LoginOptions],
    ['a `remember` of 0', 'ann', { remember: 0 } as LoginOptions],
    ['data that is no object', 'ann', { data: 'x' } as unknown as LoginOptions],
    ['data under the name of a method', 'ann', { data: { save: 1 } }],
    ['data under the name `cookie`', 'ann', { data: { cookie: 1 } }],
    ['data under the name `__proto__`', 'ann', { data: JSON.parse('{"__proto__":{"admin":true}}') }],
  ])('a login with %s is rejected, and the session does not change', async (_what, user, options) => {
    const { browser } = await start({
      '/in': async (req, res) => {
        const error = await req.session.login(user, options).catch((thrown: unknown) => thrown);
        res.json({ code: (error as { code?: string }).code, still: dataOf(req) });
      },
    });
    await browser.get('/view');
    const answer = await browser.get('/in');
    expect(JSON.parse(answer.body)).toEqual({ code: 'ERR_REDIS_KIT_CONFIG', still: { views: 1 } });
    expect(await browser.data()).toEqual({ views: 1 });
  });

  it('the methods of a session return promises and call their callback once, even if the callback throws', async () => {
    const thrown: unknown[] = [];
    const keep = (error: unknown) => thrown.push(error);
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException').on('uncaughtException', keep);
    try {
      let calls = 0;
      const { browser } = await start({
        '/save': async (req, res) => {
          req.session.note = 'saved';
          const result: unknown = req.session.save();
          expect(result).toBeInstanceOf(Promise);
          await result;
          expect(await (req.session.reload(() => undefined) as unknown)).toBeUndefined();
          expect(req.session.note).toBe('saved');
          await (req.session.regenerate(() => undefined) as unknown);
          expect(dataOf(req)).toEqual({});
          req.session.note = 'anew';
          await (req.session.save(() => {
            calls++;
            throw new Error('of the callback');
          }) as unknown);
          res.end('done');
        },
        '/destroy': async (req, res) => {
          await (req.session.destroy(() => undefined) as unknown);
          res.end(String(req.session));
        },
      });
      expect((await browser.get('/save')).body).toBe('done');
      expect(await browser.data()).toEqual({ note: 'anew' });
      expect([calls, thrown.length]).toEqual([1, 1]);
      expect((await browser.get('/destroy')).body).toBe('undefined');
      expect(browser.cookies.size).toBe(0);
    } finally {
      process.removeListener('uncaughtException', keep);
      for (const listener of listeners) process.on('uncaughtException', listener);
    }
  });

  it('session data under the name of a session method is dropped and logged', async () => {
    const { browser } = await start({
      '/write': (req, res) => {
        Object.assign(req.session, { login: 'ann', note: 'kept' });
        res.end();
      },
      '/is': (req, res) => res.end(typeof req.session.login),
    });
    await browser.get('/write');
    expect(await browser.data()).toEqual({ note: 'kept' });
    expect((await browser.get('/is')).body).toBe('function');
  });
});
