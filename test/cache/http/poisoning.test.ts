import qs from 'node:querystring';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CacheOptions } from '../../../src/index.ts';
import { APPS, EXPRESS } from '../../http/frameworks.ts';
import { describeOnBothEngines, kitForTest } from '../../support/kits.ts';
import { send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

describeOnBothEngines('a response whose key might be that of another request', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  const FILTERS: readonly CacheOptions['key'][] = [{ query: ['page'] }, { query: { ignore: ['a'] } }];

  describe.each(EXPRESS)('on %s', (_, makeApp) => {
    it.each(
      FILTERS.flatMap((key) => (['simple', 'extended'] as const).map((parser) => [key, parser] as const)),
    )('with the key %j, a query that the %s parser cuts off is not cached', async (key, parser) => {
      const kit = kitForTest({ url: url() });
      const app = makeApp().set('query parser', parser);
      app.use(kit.cache({ ttl: '1m', key }), (req, res) => void res.send(`page ${req.query.page}`));
      const address = await serve(app);
      const many = 'a&'.repeat(1_000);
      expect((await send(`${address}/?${many}page=2`)).text).toBe('page undefined');
      expect((await send(`${address}/?page=2`)).text).toBe('page 2');
      const most = await send(`${address}/?${'a&'.repeat(999)}page=2`);
      expect([most.text, most.headers.age]).toEqual(['page 2', '0']);
    });

    it.each(FILTERS)('with the key %j, a query that a custom parser cuts off is not cached', async (key) => {
      const kit = kitForTest({ url: url() });
      const parse = (text: string) => qs.parse(text, '&', '=', { maxKeys: 10 });
      const app = makeApp().set('query parser', parse);
      app.use(kit.cache({ ttl: '1m', key }), (req, res) => void res.send(`page ${req.query.page}`));
      const address = await serve(app);
      expect((await send(`${address}/?${'a&'.repeat(10)}page=2`)).text).toBe('page undefined');
      expect((await send(`${address}/?page=2`)).text).toBe('page 2');
      const most = await send(`${address}/?${'a&'.repeat(9)}page=2`);
      expect([most.text, most.headers.age]).toEqual(['page 2', '0']);
    });

    it.each(FILTERS)(
      'with the key %j, a query that a custom parser reads in another syntax is not cached',
      async (key) => {
        const kit = kitForTest({ url: url() });
        const parse = (text: string) => ({
          ...qs.parse(text),
          ...(text.includes('a=x') ? { page: 'poisoned' } : {}),
        });
        const app = makeApp().set('query parser', parse);
        app.use(kit.cache({ ttl: '1m', key }), (req, res) => void res.send(`page ${req.query.page}`));
        const address = await serve(app);
        expect((await send(`${address}/?page=2&a=x`)).text).toBe('page poisoned');
        expect((await send(`${address}/?page=2`)).text).toBe('page 2');
      },
    );
  });

  describe.each(APPS)('on %s', (_, makeApp) => {
    async function fat(options: CacheOptions) {
      const kit = kitForTest({ url: url() });
      let runs = 0;
      const app = makeApp();
      app.use(kit.cache({ ttl: '1m', ...options }));
      app.use(async (req, res) => {
        runs++;
        let body = '';
        for await (const chunk of req) body += String(chunk);
        res.end(`for ${body}`);
      });
      const address = await serve(app);
      return { address, runs: () => runs };
    }

    it.each<[string, Record<string, string>]>([
      ['a length', { 'Content-Length': '1' }],
      ['chunks', { 'Transfer-Encoding': 'chunked' }],
    ])('a GET with a body is not cached when it is sent with %s', async (_name, headers) => {
      const { address, runs } = await fat({});
      expect((await send(address, { body: 'x', headers })).text).toBe('for x');
      expect((await send(address)).text).toBe('for ');
      expect((await send(address, { body: 'y', headers })).text).toBe('for y');
      expect((await send(address)).headers.age).toBe('0');
      expect(runs()).toBe(3);
    });

    it('a GET with a body is cached with `ignoreBody`', async () => {
      const { address, runs } = await fat({ ignoreBody: true });
      await send(address, { body: 'x', headers: { 'Content-Length': '1' } });
      await send(address, { headers: { 'Content-Length': '0' } });
      expect(runs()).toBe(1);
    });
  });
});
