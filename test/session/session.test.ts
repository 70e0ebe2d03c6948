import { expect, it } from 'vitest';
import { eventsOf } from '../support/kits.ts';
import { onEveryStore } from '../support/stores.ts';
import { Browser, dataOf, heldRoute, type Routes, serveSessions } from './browser.ts';

onEveryStore('a session', (kitOf) => {
  async function start(routes: Routes = {}, options: Parameters<typeof serveSessions>[1] = {}) {
    const kit = kitOf();
    const port = await serveSessions(kit, options, routes);
    return { kit, port, browser: new Browser(port) };
  }

  it('a login with regenerate() and save() is kept in the next request', async () => {
    const { browser } = await start();
    await browser.get('/login');
    expect(await browser.data()).toEqual({ userId: 'ann' });
    expect(await browser.data()).toEqual({ userId: 'ann' });
  });

  it('the changes of successive requests are kept', async () => {
    const { browser } = await start();
    for (const views of ['1', '2', '3']) expect((await browser.get('/view')).body).toBe(views);
  });

  it('each client has its own session', async () => {
    const { browser, port } = await start();
    await browser.get('/view');
    expect(await new Browser(port).data()).toEqual({});
    expect(await browser.data()).toEqual({ views: 1 });
  });

  it('a session is saved before a redirect reaches the client', async () => {
    const { port } = await start({
      '/login': (req, res) => {
        req.session.userId = 'ann';
        res.redirect('/');
      },
    });
    for (let round = 0; round < 20; round++) {
      const browser = new Browser(port);
      await browser.get('/login');
      expect(await browser.data()).toEqual({ userId: 'ann' });
    }
  });

  it('a regenerated session has a new id, and the old session is destroyed', async () => {
    const { browser, port } = await start();
    await browser.get('/view');
    const thief = new Browser(port);
    thief.cookies.set('connect.sid', browser.cookies.get('connect.sid') ?? '');
    const before = browser.sessionId;
    await browser.get('/login');
    expect(browser.sessionId).not.toBe(before);
    expect(await thief.data()).toEqual({});
    expect(await browser.data()).toEqual({ userId: 'ann' });
  });

  it('the `destroy` of a session clears its cookie, and the next request has an empty session', async () => {
    const { browser, kit } = await start();
    const destroyed = eventsOf(kit, 'session:destroyed');
    await browser.get('/login');
    const answer = await browser.get('/logout');
    expect(answer.header('set-cookie')).toMatch(/^connect\.sid=; Path=\/; Expires=Thu, 01 Jan 1970/);
    expect(browser.cookies.size).toBe(0);
    expect(await browser.data()).toEqual({});
    expect(destroyed).toEqual([{ handle: expect.stringMatching(/^[\w-]{43}$/) }]);
  });

  it('a session whose `destroy` the handler does not await has ended before the next request', async () => {
    const { browser } = await start({
      '/logout': (req, res) => {
        req.session.destroy(() => undefined);
        res.redirect('/');
      },
    });
    await browser.get('/login');
    await browser.get('/logout');
    expect(await browser.data()).toEqual({});
  });

  it('a save that the handler does not await creates one session', async () => {
    const { browser, kit } = await start({
      '/login': (req, res) => {
        req.session.userId = 'ann';
        req.session.save();
        req.session.views = 1;
        req.session.save();
        req.session.note = 'last';
        res.redirect('/');
      },
    });
    const [conflicts, created] = [eventsOf(kit, 'session:conflict'), eventsOf(kit, 'session:created')];
    await browser.get('/login');
    expect(await browser.data()).toEqual({ userId: 'ann', views: 1, note: 'last' });
    expect(conflicts).toEqual([]);
    expect(created).toHaveLength(1);
  });

  it('a reload loads the changes of another request', async () => {
    const held = heldRoute((req, res) => {
      req.session.reload(() => res.json(dataOf(req)));
    });
    const { browser } = await start({
      '/slow': held.route,
    });
    await browser.get('/view');
    const slow = browser.begin('/slow');
    await held.entered;
    await browser.get('/view');
    held.release();
    expect(JSON.parse((await slow.answer()).body)).toEqual({ views: 2 });
  });

  it('a session that another request has destroyed is not stored again by a slow request', async () => {
    const held = heldRoute((req, res) => {
      req.session.note = 'late';
      res.end('done');
    });
    const { browser, kit } = await start(
      {
        '/slow': held.route,
      },
      { rolling: true },
    );
    const conflicts = eventsOf(kit, 'session:conflict');
    await browser.get('/view');
    const slow = browser.begin('/slow');
    await held.entered;
    await browser.get('/logout');
    held.release();
    const answer = await slow.answer();
    expect([answer.status, answer.body, answer.header('set-cookie')]).toEqual([200, 'done', undefined]);
    expect(conflicts).toEqual([{ handle: expect.any(String) }]);
    expect(await browser.data()).toEqual({});
  });

  it('a request with several saves emits one conflict for a session that another request has destroyed', async () => {
    const held = heldRoute((req, res) => {
      req.session.save(() => {
        req.session.save(() => res.end('done'));
      });
    });
    const { browser, kit } = await start(
      {
        '/slow': held.route,
      },
      { rolling: true },
    );
    const conflicts = eventsOf(kit, 'session:conflict');
    await browser.get('/view');
    const slow = browser.begin('/slow');
    await held.entered;
    await browser.get('/logout');
    held.release();
    const answer = await slow.answer();
    expect([answer.body, answer.header('set-cookie')]).toEqual(['done', undefined]);
    expect(conflicts).toEqual([{ handle: expect.any(String) }]);
  });

  it('two clients for which `genid` returns the same id do not share a session', async () => {
    const { port, kit } = await start({}, { genid: () => 'always the same' });
    const [first, second] = [new Browser(port), new Browser(port)];
    const conflicts = eventsOf(kit, 'session:conflict');
    await first.get('/view');
    const answer = await second.get('/view');
    expect([answer.body, answer.header('set-cookie')]).toEqual(['1', undefined]);
    expect(conflicts).toEqual([{ handle: expect.any(String) }]);
    expect(await first.data()).toEqual({ views: 1 });
  });

  it('a request whose session another request has ended can begin a new session', async () => {
    const held = heldRoute((req, res) => {
      req.session.note = 'late';
      req.session.save(() => {
        req.session.regenerate(() => {
          req.session.userId = 'bob';
          res.end('done');
        });
      });
    });
    const { browser } = await start({
      '/slow': held.route,
    });
    await browser.get('/view');
    const slow = browser.get('/slow');
    await held.entered;
    const other = new Browser(browser.port);
    other.cookies.set('connect.sid', browser.cookies.get('connect.sid') ?? '');
    await other.get('/logout');
    held.release();
    await slow;
    expect(await browser.data()).toEqual({ userId: 'bob' });
  });

  it.each(['keep', 'destroy'] as const)(
    'an assignment of null to req.session keeps or destroys the session as `unset` says: %s',
    async (unset) => {
      const { browser } = await start(
        {
          '/null': (req, res) => {
            Reflect.set(req, 'session', null);
            res.end();
          },
        },
        { unset },
      );
      await browser.get('/view');
      const answer = await browser.get('/null');
      expect([answer.status, browser.cookies.size]).toEqual([200, unset === 'keep' ? 1 : 0]);
      expect(await browser.data()).toEqual(unset === 'keep' ? { views: 1 } : {});
    },
  );

  it('an empty session is stored only with `saveUninitialized`', async () => {
    for (const saveUninitialized of [false, true]) {
      const { browser, kit } = await start({}, { saveUninitialized });
      const created = eventsOf(kit, 'session:created');
      await browser.data();
      expect(browser.sessionId !== '').toBe(saveUninitialized);
      expect(created).toHaveLength(saveUninitialized ? 1 : 0);
    }
  });

  it('a request through a middleware that is mounted twice has one session', async () => {
    const { kit, browser } = await start();
    const port = await serveSessions(
      kit,
      {},
      {
        '/view': (req, res) => {
          kit.session({ secret: 'another secret' })(req, res, () => {
            req.session.views = (req.session.views ?? 0) + 1;
            res.end(String(req.session.views));
          });
        },
      },
    );
    const twice = new Browser(port);
    for (const views of ['1', '2', '3']) expect((await twice.get('/view')).body).toBe(views);
    expect(browser.sessionId).toBe('');
  });

  it('a session of another client can be destroyed through req.sessionStore', async () => {
    const { browser, port } = await start({
      '/kick': (req, res) => {
        req.sessionStore.destroy(String(req.headers['x-id']), () => res.end());
      },
    });
    await browser.get('/view');
    await new Browser(port).get('/kick', { headers: { 'X-Id': browser.sessionId } });
    expect(await browser.data()).toEqual({});
  });

  it('session data under names such as __proto__ and `cookie` changes neither a prototype nor the cookie', async () => {
    const hostile =
      '{"__proto__":{"admin":true},"constructor":1,"save":"x","reload":"x","cookie":{"path":"/x"},"req":1}';
    const { browser } = await start({
      '/hostile': (req, res) => {
        for (const [name, value] of Object.entries(JSON.parse(hostile))) {
          if (!Reflect.set(req.session, name, value)) continue;
        }
        req.session.note = 'kept';
        res.end(String(Reflect.get({}, 'admin')));
      },
    });
    const answer = await browser.get('/hostile');
    expect([answer.status, answer.body]).toEqual([200, 'undefined']);
    expect(answer.header('set-cookie')).toMatch(/; Path=\/; HttpOnly; SameSite=Lax$/);
    expect(await browser.data()).toMatchObject({ note: 'kept' });
    expect((await browser.get('/view')).body).toBe('1');
    expect(await browser.data()).toMatchObject({ note: 'kept', views: 1 });
    expect((await browser.get('/login')).status).toBe(302);
  });

  it('session data that JSON cannot represent is an error that names the reason', async () => {
    const { browser, kit } = await start({
      '/circle': (req, res) => {
        Reflect.set(req.session, 'self', req.session);
        res.end('done');
      },
    });
    const errors = eventsOf(kit, 'error');
    const answer = await browser.get('/circle');
    expect([answer.status, answer.header('set-cookie')]).toEqual([500, undefined]);
    expect(errors[0]?.error).toMatchObject({
      code: 'ERR_REDIS_KIT_SESSION_DATA',
      message: expect.stringContaining('circular'),
    });
    expect((await browser.get('/view')).body).toBe('1');
  });
});
