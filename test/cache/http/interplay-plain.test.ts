import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import connect from 'connect';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CacheControls, CacheOptions, RedisKit } from '../../../src/index.ts';
import { APPS, type App } from '../../http/frameworks.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { type Sent, send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

type Handler = (req: IncomingMessage, res: ServerResponse) => unknown;
type Options = CacheOptions<IncomingMessage>;

/** The ways to put a handler behind a cache. */
const FORMS: readonly (readonly [
  name: string,
  make: (kit: RedisKit, options: Options, handler: Handler) => RequestListener,
])[] = [
  [
    'a middleware of Connect',
    (kit, options, handler) => {
      const app = connect();
      app.use(kit.cache(options));
      app.use((req, res) => void handler(req, res));
      return app;
    },
  ],
  [
    'a wrapper in node:http',
    (kit, options, handler) => {
      const cached = kit.cache<IncomingMessage, ServerResponse>(options, handler);
      return (req, res) =>
        cached(req, res, () => {
          if (res.headersSent) res.destroy();
          else res.writeHead(500).end();
        });
    },
  ],
];

describeOnBothEngines('kit.cache without Express, as', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  describe.each(FORMS)('%s', (_, make) => {
    async function page(handler: Handler, options: Options = {}) {
      const kit = kitForTest({ url: url() });
      const skipped = eventsOf(kit, 'cache:skipped');
      let runs = 0;
      const counted: Handler = (req, res) => {
        runs++;
        return handler(req, res);
      };
      const address = await serve(make(kit, { ttl: '1m', ...options }, counted));
      const ask = (headers: Sent['headers'] = {}, method = 'GET', path = '/a') =>
        send(`${address}${path}`, { headers, method });
      return { ask, skipped, runs: () => runs };
    }

    it('a streamed response is stored, and then answers conditions, ranges and HEAD', async () => {
      const { ask, runs } = await page((_req, res) => {
        res.writeHead(200, ['ETag', '"page"', 'Content-Type', 'text/plain']);
        res.write('0123');
        setImmediate(() => res.end('456789'));
      });
      for (let round = 0; round < 2; round++) {
        expect(await ask()).toMatchObject({ status: 200, text: '0123456789', headers: { etag: '"page"' } });
        expect(await ask({ 'If-None-Match': '"page"' })).toMatchObject({ status: 304, text: '' });
        expect(await ask({ Range: 'bytes=-2' })).toMatchObject({ status: 206, text: '89' });
        expect(await ask({}, 'HEAD')).toMatchObject({ status: 200, text: '' });
      }
      expect(runs()).toBe(1);
    });

    it('the response to a HEAD does not answer a GET', async () => {
      const { ask, runs } = await page((req, res) => {
        res.setHeader('Transfer-Encoding', 'chunked');
        if (req.method !== 'HEAD') res.write('body');
        res.end();
      });
      for (let head = 0; head < 2; head++) expect((await ask({}, 'HEAD')).status).toBe(200);
      expect((await ask()).text).toBe('body');
      expect((await ask()).text).toBe('body');
      expect(runs()).toBe(3);
    });

    it('a response is not stored after `req.cache.noStore()`', async () => {
      const { ask, skipped, runs } = await page((req, res) => {
        (req as IncomingMessage & { cache: CacheControls }).cache.noStore();
        res.end('body');
      });
      await ask();
      await ask();
      expect(runs()).toBe(2);
      expect(skipped.map(({ reason }) => reason)).toEqual(['no-store', 'no-store']);
    });

    it.each<[string, Handler]>([
      ['throws', fail],
      ['throws after it began', (_req, res) => res.write('begun') && fail()],
    ])('a response is not stored when its handler %s', async (_name, failing) => {
      let isBroken = true;
      const { ask } = await page((req, res) => (isBroken ? failing(req, res) : res.end('works')));
      const first = await ask().catch(() => undefined);
      expect([undefined, 500]).toContain(first?.status);
      isBroken = false;
      expect((await ask()).text).toBe('works');
      expect((await ask()).text).toBe('works');
    });
  });

  it.each(APPS)(
    'the wrapped handler form in %s passes a synchronous or asynchronous error of its handler to the app',
    async (_, makeApp) => {
      const kit = kitForTest({ url: url() });
      const app: App = makeApp();
      app.use(
        kit.cache({ ttl: '1m' }, async (req, res) => {
          if (req.url === '/later') await Promise.resolve();
          if (req.url !== '/works') fail();
          res.end('works');
        }),
      );
      const address = await serve(app);
      expect((await send(`${address}/once`)).status).toBe(500);
      expect((await send(`${address}/later`)).status).toBe(500);
      for (let round = 0; round < 2; round++) expect((await send(`${address}/works`)).text).toBe('works');
    },
  );
});

function fail(): never {
  throw Object.assign(new Error('on purpose'), { status: 500 });
}
