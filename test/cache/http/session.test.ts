import express, { type RequestHandler } from 'express';
import { beforeAll, describe, expect, it } from 'vitest';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

describeOnBothEngines('kit.cache and sessions', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function start(order: 'before' | 'after', page: RequestHandler) {
    const kit = kitForTest({ url: url() });
    const skipped = eventsOf(kit, 'cache:skipped');
    const session = kit.session({ secret: 'a secret for this test', rolling: order === 'before' });
    const cache = kit.cache({ ttl: '1m' });
    const app = express();
    app.get('/login', session, (req, res) => {
      Object.assign(req.session, { userId: String(req.query.user) });
      res.send('in');
    });
    let runs = 0;
    app.get('/page', ...(order === 'before' ? [session, cache] : [cache, session]), (req, res, next) => {
      runs++;
      return page(req, res, next);
    });
    const address = await serve(app);
    const login = async (user: string) => {
      const cookies = (await send(`${address}/login?user=${user}`)).headers['set-cookie'];
      return { Cookie: String(cookies?.[0]).split(';')[0] ?? '' };
    };
    return { address, login, skipped, runs: () => runs };
  }

  describe.each(['before', 'after'] as const)('with kit.session %s the cache', (order) => {
    it('a page is not stored when its handler read the session', async () => {
      const { address, login, skipped, runs } = await start(order, (req, res) => {
        res.send(`for ${req.session.userId}`);
      });
      for (const user of ['ann', 'bob', 'ann']) {
        const { text } = await send(`${address}/page`, { headers: await login(user) });
        expect(text).toBe(`for ${user}`);
      }
      expect((await send(`${address}/page`)).text).toBe('for undefined');
      expect(runs()).toBe(4);
      expect(new Set(skipped.map(({ reason }) => reason))).toEqual(new Set(['session-read']));
    });

    it('a page is not stored when its handler read the session after the headers were sent', async () => {
      const { address, login, runs } = await start(order, (req, res) => {
        res.write('for ');
        setImmediate(() => res.end(String(req.session.userId)));
      });
      for (const user of ['ann', 'bob']) {
        expect((await send(`${address}/page`, { headers: await login(user) })).text).toBe(`for ${user}`);
      }
      expect(runs()).toBe(2);
    });

    it('a page whose handler wrote the session is not stored, and the session is saved', async () => {
      const { address, runs } = await start(order, (req, res) => {
        Object.assign(req.session, { seen: true });
        res.send('body');
      });
      for (const answer of [await send(`${address}/page`), await send(`${address}/page`)]) {
        expect(answer.headers['set-cookie']).toHaveLength(1);
      }
      expect(runs()).toBe(2);
    });
  });

  it('a streamed page is stored when its handler did not read the session', async () => {
    const { address, login, runs } = await start('before', (_req, res) => {
      res.write('public ');
      setImmediate(() => res.end('page'));
    });
    for (const user of ['ann', 'bob']) {
      expect((await send(`${address}/page`, { headers: await login(user) })).text).toBe('public page');
    }
    expect(runs()).toBe(1);
  });

  it.each(['user', 'sessionID', 'sessionStore'] as const)(
    'a page is not stored when its handler read req.%s',
    async (name) => {
      const kit = kitForTest({ url: url() });
      const skipped = eventsOf(kit, 'cache:skipped');
      const app = express().use(kit.session({ secret: 'a secret for this test' }), (req, _res, next) => {
        Object.assign(req, { user: req.get('x-user') });
        next();
      });
      app.get('/page', kit.cache({ ttl: '1m' }), (req, res) => {
        res.send(`${String(Reflect.get(req, name))} for ${req.get('x-user')}`);
      });
      const address = await serve(app);
      for (const user of ['ann', 'bob']) {
        const { text } = await send(`${address}/page`, { headers: { 'x-user': user } });
        expect(text).toMatch(new RegExp(` for ${user}$`));
      }
      expect(skipped.map(({ reason }) => reason)).toEqual(['session-read', 'session-read']);
    },
  );

  it('a page is stored when only an access check before the cache read the session', async () => {
    const kit = kitForTest({ url: url() });
    let runs = 0;
    const app = express().use(kit.session({ secret: 'a secret for this test' }), (req, res, next) => {
      if (req.get('x-user') === undefined && req.session.userId === undefined) res.sendStatus(401);
      else next();
    });
    app.get('/page', kit.cache({ ttl: '1m' }), (_req, res) => {
      runs++;
      res.send('for all who may come in');
    });
    const address = await serve(app);
    for (const user of ['ann', 'bob']) await send(`${address}/page`, { headers: { 'x-user': user } });
    expect((await send(`${address}/page`)).status).toBe(401);
    expect(runs).toBe(1);
  });

  it('a stored page is sent to each client with its own session cookie', async () => {
    const { address, login, runs } = await start('before', (_req, res) => void res.send('public'));
    const [ann, bob] = [await login('ann'), await login('bob')];
    const idIn = (cookie: string | undefined) => /connect\.sid=([^;]+)/.exec(cookie ?? '')?.[1];
    const miss = await send(`${address}/page`, { headers: ann });
    expect(idIn(miss.headers['set-cookie']?.[0])).toBe(idIn(ann.Cookie));
    const anonymous = await send(`${address}/page`);
    expect(anonymous.text).toBe('public');
    expect(idIn(anonymous.headers['set-cookie']?.[0])).not.toBe(idIn(ann.Cookie));
    const hit = await send(`${address}/page`, { headers: bob });
    expect(hit.text).toBe('public');
    expect(idIn(hit.headers['set-cookie']?.[0])).toBe(idIn(bob.Cookie));
    expect(runs()).toBe(1);
  });
});
