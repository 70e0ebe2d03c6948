import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Express, RequestHandler } from 'express';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { EXPRESS } from '../../http/frameworks.ts';
import { describeOnBothEngines, kitForTest } from '../../support/kits.ts';
import { send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';
import { site } from './site.ts';

describeOnBothEngines('req.cache', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  describe.each(EXPRESS)('on %s', (_, makeApp) => {
    const at = (options = {}) => ({ ...options, makeApp: makeApp as () => Express });

    it('a response is not stored after `noStore()`, and `cache:skipped` carries the reason of the handler', async () => {
      const reasons = [undefined, 'preview', ''];
      const { ask, runs, skipped } = await site(url(), at({ ttl: '1m' }), (req, res) => {
        req.cache.noStore(reasons[runs() - 1]);
        res.send('body');
      });
      for (let request = 0; request < 3; request++) await ask();
      expect(runs()).toBe(3);
      expect(skipped.map(({ reason }) => reason)).toEqual(['no-store', 'preview', 'no-store']);
    });

    it('a response is not stored when the handler calls `noStore()` after the head was sent', async () => {
      const { ask, runs } = await site(url(), at({ ttl: '1m' }), (req, res) => {
        res.write('begun ');
        setImmediate(() => {
          req.cache.noStore();
          res.end('and ended');
        });
      });
      await ask();
      await ask();
      expect(runs()).toBe(2);
    });

    it('a lifetime set by `req.cache.ttl()` replaces the option `ttl`', async () => {
      const { ask, pass, runs, storedAll } = await site(url(), at({ ttl: '1h' }), (req, res) => {
        req.cache.ttl('10s');
        res.send('body');
      });
      await ask();
      await storedAll(1);
      expect((await ask()).headers['cache-status']).toContain('hit; ttl=');
      await pass(11_000);
      await ask();
      expect(runs()).toBe(2);
    });

    it('a response without a lifetime in its headers gets the one set by `req.cache.ttl()`', async () => {
      let status = 404;
      const { ask, runs, skipped } = await site(url(), at(), (req, res) => {
        const { ttl } = req.cache;
        ttl('10s');
        res.status(status).send('body');
      });
      await ask();
      status = 200;
      await ask();
      await ask();
      expect([runs(), skipped.map(({ reason }) => reason)]).toEqual([2, ['status']]);
    });

    it.each([0, -1, '1 minute', Number.NaN, undefined])('`req.cache.ttl(%s)` throws', async (duration) => {
      let message = '';
      const { ask } = await site(url(), at({ ttl: '1m' }), (req, res) => {
        try {
          req.cache.ttl(duration as number);
        } catch (error) {
          message = String(error);
        }
        res.send('body');
      });
      await ask();
      expect(message).toMatch(/^ConfigError: req\.cache\.ttl: .* is no duration; give one like '30s'$/);
    });

    it('the controls have no effect on a request that is not cached, although `req.cache` is set', async () => {
      const { ask, runs } = await site(
        url(),
        at({ ttl: '1m', skip: (req: { url: string }) => req.url === '/skipped' }),
        (req, res) => {
          const { tag, ttl, noStore } = req.cache;
          tag('a');
          ttl('1m');
          noStore('a reason');
          res.send('body');
        },
      );
      for (const [path, method] of [
        ['/a', 'POST'],
        ['/a', 'HEAD'],
        ['/a', 'OPTIONS'],
        ['/skipped', 'GET'],
      ] as const) {
        expect((await ask(path, {}, method)).status).toBe(200);
      }
      expect(runs()).toBe(4);
    });

    it('`req.cache.noStore()` applies to both caches of a route', async () => {
      const kit = kitForTest({ url: url() });
      let runs = 0;
      const app = makeApp().use(kit.cache({ ttl: '1m' }), kit.cache({ ttl: '1m', key: () => 'inner' }));
      app.get('/', (req, res) => {
        runs++;
        req.cache.noStore();
        res.send('body');
      });
      const address = await serve(app);
      await send(address);
      await send(address);
      expect(runs).toBe(2);
    });

    it('the cache does not change `res.locals.cache`, which is a template option of Express', async () => {
      const directory = await mkdtemp(join(tmpdir(), 'views-'));
      onTestFinished(() => rm(directory, { recursive: true }));
      const kit = kitForTest({ url: url() });
      const app = makeApp().set('views', directory).set('view engine', 'ejs').set('view cache', false);
      const setsOwn: RequestHandler = (_req, res, next) => {
        if (res.req.path === '/own') res.locals.cache = 'own';
        next();
      };
      app.use(setsOwn, kit.cache({ ttl: '1m', key: () => false }));
      app.use('/own', (_req, res) => void res.send(String(res.locals.cache)));
      app.use((_req, res) => void res.render('page'));
      const address = await serve(app);
      for (const text of ['first', 'second']) {
        await writeFile(join(directory, 'page.ejs'), text);
        expect((await send(address)).text).toBe(text);
      }
      for (const method of ['GET', 'POST'])
        expect((await send(`${address}/own`, { method })).text).toBe('own');
    });
  });
});
