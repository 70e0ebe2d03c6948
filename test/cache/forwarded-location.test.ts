import { beforeAll, describe, expect, it } from 'vitest';
import { EXPRESS } from '../http/frameworks.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { send, serve } from '../support/web.ts';
import { loadCacheScripts } from './scripts.ts';

describeOnBothEngines('a POST behind a proxy that names a URL', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  describe.each(EXPRESS)('on %s', (_, makeApp) => {
    const PROXY = { 'X-Forwarded-Host': 'public.host', 'X-Forwarded-Proto': 'https' };

    /** Whether the named item is purged. */
    async function isPurged(
      named: string,
      { field = 'Location', trust = true, headers = PROXY as Readonly<Record<string, string>> } = {},
    ): Promise<boolean> {
      const kit = kitForTest({ url: url() });
      const app = makeApp().set('trust proxy', trust);
      let runs = 0;
      app.use(kit.cache({ ttl: '1m' }));
      app.get('/items/1', (_req, res) => {
        runs++;
        res.send('item');
      });
      app.post('/items', (_req, res) => void res.status(201).set(field, named).send('made'));
      const address = await serve(app);
      await send(`${address}/items/1`, { headers });
      await send(`${address}/items`, { method: 'POST', headers });
      await send(`${address}/items/1`, { headers });
      return runs === 2;
    }

    it.each(['Location', 'Content-Location'])(
      'purges what an absolute %s names on the public host',
      async (field) => {
        expect(await isPurged('https://public.host/items/1', { field })).toBe(true);
      },
    );

    it.each([
      ['https://public.host/items/1', { ...PROXY, 'X-Forwarded-Host': 'public.host:443' }],
      ['https://PUBLIC.host:443/items/1', PROXY],
      ['https://public.host:8443/items/1', { ...PROXY, 'X-Forwarded-Host': 'public.host:8443, inner' }],
      ['/items/1', PROXY],
      ['1', { ...PROXY, 'X-Forwarded-Host': 'not a host' }],
    ])('purges what %s names', async (named, headers) => {
      expect(await isPurged(named === '1' ? 'items/1' : named, { headers })).toBe(true);
    });

    it.each<[string, Parameters<typeof isPurged>[1]]>([
      ['https://other.host/items/1', {}],
      ['https://public.host:8443/items/1', {}],
      ['https://public.host/items/1', { trust: false }],
    ])('purges nothing for %s with %j', async (named, options) => {
      expect(await isPurged(named, options)).toBe(false);
    });
  });
});
