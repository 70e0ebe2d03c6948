import { gunzipSync } from 'node:zlib';
import compression from 'compression';
import express, { Router } from 'express';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { APPS, mount } from '../../http/frameworks.ts';
import { describeWithServers } from '../../support/context.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { withPlainClient } from '../../support/plain-client.ts';
import { startRedis } from '../../support/servers.ts';
import { until } from '../../support/until.ts';
import { send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

const TEXT = 'a text that is worth compressing, '.repeat(100);

describeOnBothEngines('kit.cache in an app', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  it.each(APPS)('kit.cache in a sub-app of %s selects responses by the whole URL', async (_, makeApp) => {
    const kit = kitForTest({ url: url() });
    let runs = 0;
    const inner = makeApp();
    inner.use(kit.cache({ ttl: '1m' }));
    inner.use((req, res) => {
      runs++;
      res.setHeader('X-Inner', String(req.url));
      res.end(`${runs}`);
    });
    const app = makeApp();
    mount(app, '/one', inner);
    mount(app, '/two', inner);
    const address = await serve(app);
    for (const [path, body] of [
      ['/one/page', '1'],
      ['/two/page', '2'],
      ['/one/page', '1'],
      ['/two/page', '2'],
      ['/one/page?q', '3'],
    ]) {
      const { status, text, headers } = await send(`${address}${path}`);
      expect([status, text]).toEqual([200, body]);
      expect(headers['x-inner']).toBe(path?.slice(4));
    }
  });

  it('kit.cache in a router caches only the route that it is mounted on', async () => {
    const kit = kitForTest({ url: url() });
    let runs = 0;
    const router = Router();
    router.get(
      '/cached/:id',
      kit.cache({ ttl: '1m' }),
      (req, res) => void res.json({ id: req.params.id, runs: ++runs }),
    );
    router.get('/plain', (_req, res) => void res.json({ runs: ++runs }));
    const address = await serve(express().use('/api', router));
    expect((await send(`${address}/api/cached/7`)).text).toBe('{"id":"7","runs":1}');
    expect((await send(`${address}/api/cached/7`)).text).toBe('{"id":"7","runs":1}');
    expect((await send(`${address}/api/cached/8`)).text).toBe('{"id":"8","runs":2}');
    expect((await send(`${address}/api/plain`)).text).toBe('{"runs":3}');
    expect((await send(`${address}/api/plain`)).text).toBe('{"runs":4}');
  });

  it('a hit has the current headers of earlier middleware, not those of the first response', async () => {
    const kit = kitForTest({ url: url() });
    let request = 0;
    const app = express();
    app.use((_req, res, next) => {
      res.setHeader('X-Request-Id', `request-${++request}`);
      res.setHeader('X-Same', 'same');
      res.appendHeader('Link', '</outer>');
      res.appendHeader('Link', '</outer-too>');
      next();
    });
    app.use(kit.rateLimit({ algorithm: 'sliding-window', limit: 9, window: '1m' }));
    app.get('/', kit.cache({ ttl: '1m' }), (_req, res) => {
      res.appendHeader('Link', '</inner>');
      res.vary('Accept').send('body');
    });
    const address = await serve(app);
    const [miss, hit] = [await send(address), await send(address)];
    expect(hit.headers.age).toBeDefined();
    expect([miss.headers['x-request-id'], hit.headers['x-request-id']]).toEqual(['request-1', 'request-2']);
    expect(String(miss.headers.ratelimit)).toContain('r=8');
    expect(String(hit.headers.ratelimit)).toContain('r=7');
    expect(hit.headers.link, 'a list that was only continued').toBe('</outer>, </outer-too>, </inner>');
    expect(hit.headers['x-same']).toBe('same');
  });

  it.each(['outside', 'inside'] as const)(
    'a page is stored and sent in the coding of each client with compression() %s the cache',
    async (where) => {
      const kit = kitForTest({ url: url() });
      let runs = 0;
      const app = express();
      const cache = kit.cache({ ttl: '1m' });
      const compress = compression({ threshold: 0 });
      app.get('/', ...(where === 'outside' ? [compress, cache] : [cache, compress]), (_req, res) => {
        runs++;
        res.type('text').send(TEXT);
      });
      const address = await serve(app);
      const zipped = { headers: { 'Accept-Encoding': 'gzip' } };
      for (let round = 0; round < 2; round++) {
        const { headers, body } = await send(address, zipped);
        expect(headers['content-encoding']).toBe('gzip');
        expect(String(headers.vary)).toContain('Accept-Encoding');
        expect(gunzipSync(body).toString()).toBe(TEXT);
      }
      expect(runs).toBe(1);
      const plain = await send(address);
      expect([plain.headers['content-encoding'], plain.text]).toEqual([undefined, TEXT]);
      expect((await send(address)).text).toBe(TEXT);
      expect(runs, 'the stored bytes are zipped only where it is inside').toBe(where === 'outside' ? 1 : 2);
    },
  );

  it('errors of the option `skip` and of the handler reach the error handler of the app', async () => {
    const kit = kitForTest({ url: url() });
    const app = express().set('env', 'test');
    const fail = () => {
      throw new Error('on purpose');
    };
    app.get('/skip', kit.cache({ ttl: '1m', skip: fail }), (_req, res) => void res.send('body'));
    app.get('/handler', kit.cache({ ttl: '1m' }), fail);
    const address = await serve(app);
    for (const path of ['/skip', '/handler', '/handler']) {
      expect((await send(`${address}${path}`)).status).toBe(500);
    }
  });
});

describeWithServers('kit.cache on Redis', () => {
  async function start(commandTimeout: number) {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const kit = kitForTest({ url: server.url, commandTimeout });
    await loadCacheScripts(server.url);
    await kit.ready();
    let runs = 0;
    const app = express();
    app.get(
      '/{*path}',
      kit.cache({ ttl: '1m', local: false, singleFlight: false }),
      (_req, res) => void res.send(`body ${++runs}`),
    );
    return { server, kit, address: await serve(app) };
  }

  it('every Redis key of the cache has a TTL', async () => {
    const { server, address } = await start(5_000);
    await send(`${address}/a`);
    await send(`${address}/a`);
    await withPlainClient(server.url, async (client) => {
      const keys = await client.keys('*');
      expect(keys).toHaveLength(4);
      for (const key of keys) expect(await client.pTTL(key), key).toBeGreaterThan(50_000);
    });
  });

  describe.each(['killed', 'frozen'] as const)('while Redis is %s', (fate) => {
    it('without Redis, the handler runs for every request, and no client gets an error', async () => {
      const { server, kit, address } = await start(1_000);
      const errors = eventsOf(kit, 'error');
      expect((await send(`${address}/a`)).text).toBe('body 1');
      expect((await send(`${address}/a`)).text).toBe('body 1');
      if (fate === 'killed') await server.kill();
      else server.freeze();
      for (let run = 2; run <= 8; run++) {
        const answer = await send(`${address}/a`);
        expect([answer.status, answer.text]).toEqual([200, `body ${run}`]);
      }
      expect(new Set(errors.map(({ feature }) => feature))).toEqual(new Set(['cache']));
      expect(errors.length).toBeLessThanOrEqual(2);
      if (fate === 'killed') await server.restart();
      else server.thaw();
      await until('hits come back', async () => (await send(`${address}/a`)).headers.age !== undefined);
    });
  });
});
