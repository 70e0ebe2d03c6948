import { beforeAll, describe, expect, it } from 'vitest';
import { EXPRESS } from '../../http/frameworks.ts';
import { describeOnBothEngines, kitForTest } from '../../support/kits.ts';
import { send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

describeOnBothEngines('the response to a POST behind a proxy', (url) => {
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
      'an absolute URL in %s on the public host is purged',
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
    ])('the stored response to the URL in %s is purged', async (named, headers) => {
      expect(await isPurged(named === '1' ? 'items/1' : named, { headers })).toBe(true);
    });

    it.each<[string, Parameters<typeof isPurged>[1]]>([
      ['https://other.host/items/1', {}],
      ['https://public.host:8443/items/1', {}],
      ['https://public.host/items/1', { trust: false }],
    ])('no stored response is purged by %s with %j', async (named, options) => {
      expect(await isPurged(named, options)).toBe(false);
    });
  });
});
