import type express from 'express';
import type { RequestHandler } from 'express';
import rateLimit from 'express-rate-limit';
import helmet from 'helmet';
import { beforeAll, describe, expect, it } from 'vitest';
import { EXPRESS } from '../../http/frameworks.ts';
import { describeOnBothEngines, kitForTest } from '../../support/kits.ts';
import { send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';
import { site } from './site.ts';

/** Ways in which a handler sets a header; each sets `Content-Language: de`. */
const SETTERS: readonly (readonly [name: string, set: RequestHandler])[] = [
  ['setHeader()', (_req, res, next) => void next(res.setHeader('Content-Language', 'de') && undefined)],
  ['Express set()', (_req, res, next) => void next(res.set('content-language', 'de') && undefined)],
  [
    'setHeaders()',
    (_req, res, next) => void next(res.setHeaders(new Map([['Content-Language', 'de']])) && undefined),
  ],
  [
    'appendHeader()',
    (_req, res, next) => {
      res.removeHeader('Content-Language');
      res.appendHeader('Content-Language', 'de');
      next();
    },
  ],
];

describeOnBothEngines('kit.cache and the headers of the handler', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  /** The Content-Language that each client gets if middleware above sets it for each request. */
  const byQuery: RequestHandler = (req, res, next) => {
    res.setHeader('Content-Language', String(req.query.language ?? 'de'));
    next();
  };

  describe.each(EXPRESS)('on %s', (_, makeApp) => {
    it('a hit lacks the headers that the handler removed', async () => {
      const { ask, runs } = await site(
        url(),
        { ttl: '1m', makeApp, above: [helmet() as RequestHandler] },
        (_req, res) => {
          res.removeHeader('X-Frame-Options');
          res.removeHeader('Content-Security-Policy');
          res.send('page');
        },
      );
      for (const { headers } of [await ask(), await ask(), await ask('/a', { 'If-None-Match': '*' })]) {
        expect(headers).not.toHaveProperty('x-frame-options');
        expect(headers).not.toHaveProperty('content-security-policy');
        expect(headers).toHaveProperty('x-content-type-options', 'nosniff');
      }
      expect(runs()).toBe(1);
    });

    it.each(SETTERS)(
      'a hit has the header that the handler set by %s to the value that earlier middleware had set',
      async (_way, set) => {
        const { ask, runs } = await site(
          url(),
          { ttl: '1m', makeApp, above: [byQuery], below: [set], key: { query: false } },
          (_req, res) => void res.send('Seite'),
        );
        for (const language of ['de', 'fr']) {
          expect((await ask(`/a?language=${language}`)).headers['content-language']).toBe('de');
        }
        expect(runs()).toBe(1);
      },
    );

    it('a hit has the header that the handler passed to writeHead() with the value that earlier middleware had set', async () => {
      const { ask, runs } = await site(
        url(),
        { ttl: '1m', makeApp, above: [byQuery], key: { query: false } },
        (_req, res) => void res.writeHead(200, { 'Content-Language': 'de' }).end('Seite'),
      );
      for (const language of ['de', 'fr']) {
        expect((await ask(`/a?language=${language}`)).headers['content-language']).toBe('de');
      }
      expect(runs()).toBe(1);
    });

    it('a hit has the current value of a header that earlier middleware set and the handler did not set', async () => {
      const { ask, runs } = await site(
        url(),
        { ttl: '1m', makeApp, above: [byQuery], key: { query: false } },
        (_req, res) => void res.send('page'),
      );
      for (const language of ['de', 'fr']) {
        expect((await ask(`/a?language=${language}`)).headers['content-language']).toBe(language);
      }
      expect(runs()).toBe(1);
    });
  });

  it('a hit has no cookie of earlier middleware that the handler removed', async () => {
    let visitors = 0;
    const { ask, runs } = await site(
      url(),
      {
        ttl: '1m',
        above: [(_req, res, next) => void next(res.cookie('visitor', ++visitors) && undefined)],
      },
      (_req, res) => {
        res.removeHeader('Set-Cookie');
        res.send('page');
      },
    );
    for (const { headers } of [await ask(), await ask()]) expect(headers).not.toHaveProperty('set-cookie');
    expect(runs()).toBe(1);
  });

  it('after a 304 has freshened a response, a hit still lacks the headers that the handler removed', async () => {
    const { ask, runs, pass } = await site(
      url(),
      { ttl: '1s', staleWhileRevalidate: '1m', local: false, above: [helmet() as RequestHandler] },
      (req, res) => {
        res.removeHeader('X-Frame-Options');
        res.set('ETag', '"page"');
        if (req.get('if-none-match') === '"page"') res.status(304).end();
        else res.type('text').send('page');
      },
    );
    await ask();
    await pass(2_000);
    await ask();
    await expect.poll(runs).toBe(2);
    await expect.poll(async () => (await ask()).headers['cache-status']).not.toContain('ttl=-');
    const { status, headers } = await ask();
    expect([status, headers['content-type']]).toEqual([200, 'text/plain; charset=utf-8']);
    expect(headers).not.toHaveProperty('x-frame-options');
  });
});

/** Fields about the handling of one request, set by a handler or by middleware below the cache. */
const OF_ONE_REQUEST = {
  RateLimit: '"burst";r=3;t=60',
  'RateLimit-Policy': '"burst";q=10;w=60',
  'RateLimit-Remaining': '3',
  'X-RateLimit-Remaining': '3',
  'X-Rate-Limit-Remaining': '3',
  'Server-Timing': 'db;dur=53',
  'X-Response-Time': '53ms',
  'X-Runtime': '0.053',
  'X-Request-Id': 'r-1',
  'Request-Id': 'r-1',
  'X-Correlation-Id': 'c-1',
  'Correlation-Id': 'c-1',
  'X-Trace-Id': 't-1',
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  tracestate: 'vendor=1',
  traceresponse: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  'X-B3-TraceId': '1',
  'X-Datadog-Trace-Id': '1',
  'X-Amzn-Trace-Id': 'Root=1',
  'X-Cloud-Trace-Context': '1/1',
};

describeOnBothEngines('kit.cache and headers about one request', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  it.each(Object.entries(OF_ONE_REQUEST))('a hit has no %s', async (name, value) => {
    const { ask, runs } = await site(
      url(),
      { ttl: '1m' },
      (_req, res) => void res.set({ [name]: value, 'X-Kept': 'yes', 'Retry-After': '5' }).send('page'),
    );
    expect((await ask()).headers[name.toLowerCase()]).toBe(value);
    const hit = await ask();
    expect(hit.headers).not.toHaveProperty(name.toLowerCase());
    expect([hit.headers['x-kept'], hit.headers['retry-after']]).toEqual(['yes', '5']);
    expect(runs()).toBe(1);
  });

  it('a stored 429 has no Retry-After', async () => {
    const { ask, runs } = await site(
      url(),
      { ttl: '1m', statuses: [429] },
      (_req, res) => void res.status(429).set('Retry-After', '60').send('too many'),
    );
    expect((await ask()).headers['retry-after']).toBe('60');
    expect((await ask()).headers).not.toHaveProperty('retry-after');
    expect(runs()).toBe(1);
  });

  it.each(EXPRESS)(
    'a hit has the quota of the limiter before the cache, and not of the one after, on %s',
    async (_, makeApp) => {
      const kit = kitForTest({ url: url() });
      const app = makeApp();
      const key = (req: express.Request) => req.get('x-user') ?? '';
      app.use(kit.rateLimit({ algorithm: 'sliding-window', name: 'all', limit: 100, window: '1h', key }));
      app.get(
        '/',
        kit.cache({ ttl: '1m' }),
        kit.rateLimit({ algorithm: 'sliding-window', name: 'expensive', limit: 5, window: '1h', key }),
        (_req, res) => void res.send('report'),
      );
      const address = await serve(app);
      const ask = async (user: string) => (await send(address, { headers: { 'X-User': user } })).headers;
      expect((await ask('ann')).ratelimit).toMatch(/^"all";r=99;t=\d+, "expensive";r=4;t=\d+$/);
      for (const left of [99, 98, 97])
        expect((await ask('bob')).ratelimit).toMatch(new RegExp(`^"all";r=${left};t=\\d+$`));
    },
  );

  it.each(['draft-8', 'draft-6'] as const)(
    'a hit has no quota of express-rate-limit after the cache (%s)',
    async (standardHeaders) => {
      const { ask } = await site(
        url(),
        { ttl: '1m', below: [rateLimit({ limit: 5, standardHeaders, legacyHeaders: true })] },
        (_req, res) => void res.send('page'),
      );
      const quotas = ({ headers }: Awaited<ReturnType<typeof ask>>) =>
        Object.keys(headers).filter((name) => name.includes('ratelimit'));
      expect(quotas(await ask()).length).toBeGreaterThan(3);
      expect(quotas(await ask())).toEqual([]);
    },
  );
});
