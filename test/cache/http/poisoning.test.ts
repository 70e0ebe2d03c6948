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

    it.each([
      ['X-Tenant', 'acme', 'acme\xa0'],
      ['Cookie', 'plan=pro', 'plan=pro\xa0'],
      ['Accept-Language', 'de', 'de\xa0'],
      ['Accept-Encoding', 'gzip;q=0.5', 'gzip;q=0.5\xa0'],
      ['Accept-Encoding', 'gzip;q=0.5', 'gzip;\xa0q=0.5'],
    ])(
      'with Vary: %s, a client with the value %j does not get the response to the value %j',
      async (name, own, other) => {
        const kit = kitForTest({ url: url() });
        const app = makeApp();
        app.use(kit.cache({ ttl: '1m' }), (req, res) => {
          res.vary(name);
          res.send(JSON.stringify(req.get(name)));
        });
        const address = await serve(app);
        for (const value of [other, own]) {
          expect((await send(address, { headers: { [name]: value } })).text).toBe(JSON.stringify(value));
        }
      },
    );

    it.each<[Exclude<CacheOptions['key'], undefined>, Record<string, string>, Record<string, string>]>([
      [{ cookies: ['theme'] }, { Cookie: 'theme=dark' }, { Cookie: 'theme=dark\xa0' }],
      [{ cookies: ['theme'] }, { Cookie: 'theme=light' }, { Cookie: '\xa0theme=dark; theme=light' }],
      [{ cookies: ['theme'] }, { Cookie: 'theme=dark' }, { Cookie: 'theme=dark; theme=light' }],
      [{ headers: ['X-Plan'] }, {}, { 'X-Plan': '' }],
      [{ headers: ['X-Plan'] }, { 'X-Plan': 'pro' }, { 'X-Plan': 'pro\xa0' }],
    ])('with the key %j, a client that sends %j does not get the response to %j', async (key, own, other) => {
      const kit = kitForTest({ url: url() });
      const app = makeApp();
      // A parser above the cache, whose result the cache does not know.
      app.use((req, res, next) => {
        res.locals.sent = [req.headers.cookie ?? null, req.headers['x-plan'] ?? null];
        next();
      });
      app.use(kit.cache({ ttl: '1m', key }), (_req, res) => void res.json(res.locals.sent));
      const address = await serve(app);
      for (const headers of [other, own]) {
        const { text } = await send(address, { headers });
        expect(JSON.parse(text)).toEqual([headers.Cookie ?? null, headers['X-Plan'] ?? null]);
      }
    });

    it('a key with line breaks, chosen by a client, does not equal a key with the values of Vary', async () => {
      const kit = kitForTest({ url: url() });
      const app = makeApp();
      app.use(kit.cache({ ttl: '1m', key: (req) => String(req.query.q) }), (req, res) => {
        if (req.query.q === 'a') res.vary('X-A');
        res.send(`for ${JSON.stringify(req.query.q)} and ${req.get('x-a')}`);
      });
      const address = await serve(app);
      const get = async (q: string, value: string) =>
        (await send(`${address}/?q=${encodeURIComponent(q)}`, { headers: { 'X-A': value } })).text;
      expect(await get('a', '0')).toBe('for "a" and 0');
      await get('a\nx-a\n["1"]', '2');
      expect(await get('a', '1')).toBe('for "a" and 1');
    });

    it('a page for a host in upper case does not answer a request for the host in lower case', async () => {
      const kit = kitForTest({ url: url() });
      const tenants = new Map([['acme.example', 'Acme']]);
      const app = makeApp();
      app.use(
        kit.cache({ ttl: '1m' }),
        (req, res) => void res.send(tenants.get(req.hostname) ?? 'unknown tenant'),
      );
      const address = await serve(app);
      const pageOf = async (host: string) => (await send(address, { headers: { Host: host } })).text;
      expect(await pageOf('ACME.example')).toBe('unknown tenant');
      expect(await pageOf('acme.example')).toBe('Acme');
    });

    it('a page for a forwarded host with a no-break space does not answer requests for the host without it', async () => {
      const kit = kitForTest({ url: url() });
      const app = makeApp().set('trust proxy', true);
      app.use(kit.cache({ ttl: '1m' }), (req, res) => void res.json(req.hostname));
      const address = await serve(app);
      for (const host of ['shop.example\xa0', 'shop.example']) {
        const { text } = await send(address, { headers: { 'X-Forwarded-Host': host } });
        expect(JSON.parse(text)).toBe(host);
      }
    });
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
