import compression from 'compression';
import cookieSession from 'cookie-session';
import express, { type Application, type RequestHandler } from 'express';
import onHeaders from 'on-headers';
import responseTime from 'response-time';
import { beforeAll, describe, expect, it } from 'vitest';
import { EXPRESS } from '../../http/frameworks.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { compression17, cookieSession210, onHeaders102 } from '../../support/older-releases.ts';
import { send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';
import { type SiteOptions, site } from './site.ts';

const VERSIONS = [
  ['on-headers 1.1.0', onHeaders],
  ['on-headers 1.0.2', onHeaders102],
] as const;

/** Ways in which a handler responds; the body names the tenant. */
const WAYS: readonly (readonly [name: string, handler: RequestHandler])[] = [
  ['with json()', (req, res) => void res.json({ tenant: req.get('x-tenant') })],
  ['with end()', (req, res) => void res.end(`for ${req.get('x-tenant')}`)],
  [
    'by writeHead() and end()',
    (req, res) => void res.writeHead(200, { 'X-Own': '1' }).end(`for ${req.get('x-tenant')}`),
  ],
  [
    'by streaming',
    (req, res) => {
      res.write('for ');
      setImmediate(() => res.end(req.get('x-tenant')));
    },
  ],
  [
    'by flushHeaders()',
    (req, res) => {
      res.flushHeaders();
      setImmediate(() => res.end(`for ${req.get('x-tenant')}`));
    },
  ],
];

describeOnBothEngines('kit.cache and headers set while the head is sent', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  describe.each(VERSIONS)('with %s', (_, listen) => {
    const late =
      (name: string, value: string): RequestHandler =>
      (_req, res, next) => {
        listen(res, () => {
          res.setHeader(name, value);
        });
        next();
      };

    describe.each(['below', 'above'] as const)('by middleware %s the cache', (place) => {
      const mounted = (handler: RequestHandler, makeApp: () => Application = express): SiteOptions => ({
        ttl: '1m',
        makeApp,
        [place]: [handler],
      });

      describe.each(EXPRESS)('on %s', (_framework, makeApp) => {
        it.each(WAYS)(
          'a response sent %s is not stored when it gets no-store while its head is sent',
          async (_way, handler) => {
            const { ask, runs, skipped } = await site(
              url(),
              mounted(late('Cache-Control', 'no-store'), makeApp),
              handler,
            );
            for (const { headers } of [await ask(), await ask()])
              expect(headers['cache-control']).toBe('no-store');
            expect(runs()).toBe(2);
            expect(skipped.map(({ reason }) => reason)).toEqual(['no-store', 'no-store']);
          },
        );

        it.each(WAYS)(
          'a response sent %s is stored as a variant when it gets Vary while its head is sent',
          async (_way, handler) => {
            const { ask, runs } = await site(url(), mounted(late('Vary', 'X-Tenant'), makeApp), handler);
            for (const tenant of ['a', 'b', 'a', 'b']) {
              const { headers, text } = await ask('/a', { 'X-Tenant': tenant });
              expect([headers.vary, text]).toEqual(['X-Tenant', expect.stringContaining(tenant)]);
            }
            expect(runs()).toBe(2);
          },
        );
      });

      it('a max-age set while the head is sent is the lifetime', async () => {
        const { ask, runs, pass } = await site(
          url(),
          { ...mounted(late('Cache-Control', 'max-age=10')), ttl: undefined, local: false },
          (_req, res) => void res.set('Cache-Control', 'max-age=60').send('page'),
        );
        await ask();
        await ask();
        expect(runs()).toBe(1);
        await pass(11_000);
        await ask();
        expect(runs()).toBe(2);
      });
    });

    it('a response is not stored when later middleware adds a cookie while the head is sent', async () => {
      const { ask, runs, skipped } = await site(
        url(),
        { ttl: '1m', below: [late('Set-Cookie', 'visitor=1')] },
        (_req, res) => void res.send('page'),
      );
      for (const { headers } of [await ask(), await ask()])
        expect(headers['set-cookie']).toEqual(['visitor=1']);
      expect(runs()).toBe(2);
      expect(skipped[0]?.reason).toBe('set-cookie');
    });

    it('earlier middleware adds a cookie to misses and hits while the head is sent', async () => {
      const { ask, runs } = await site(
        url(),
        { ttl: '1m', above: [late('Set-Cookie', 'visitor=1')] },
        (_req, res) => void res.send('page'),
      );
      for (const { headers } of [await ask(), await ask()])
        expect(headers['set-cookie']).toEqual(['visitor=1']);
      expect(runs()).toBe(1);
    });

    it('headers that later middleware adds while the head is sent are stored', async () => {
      const { ask, runs } = await site(
        url(),
        { ttl: '1m', below: [late('X-Late', 'yes'), late('Content-Language', 'de')] },
        (_req, res) => void res.send('page'),
      );
      for (const { headers } of [await ask(), await ask()]) {
        expect([headers['x-late'], headers['content-language']]).toEqual(['yes', 'de']);
      }
      expect(runs()).toBe(1);
    });

    it('a response is not stored when later middleware sets the status 404 while the head is sent', async () => {
      const { ask, runs } = await site(
        url(),
        {
          ttl: '1m',
          below: [
            (_req, res, next) => {
              listen(res, () => {
                res.statusCode = 404;
              });
              next();
            },
          ],
        },
        (_req, res) => void res.send('page'),
      );
      for (const { status } of [await ask(), await ask()]) expect(status).toBe(404);
      expect(runs()).toBe(2);
    });

    it('a page is not stored when earlier middleware adds `private` to a 206 or a 304 while its head is sent', async () => {
      const { ask, runs } = await site(
        url(),
        { ttl: '1m', above: [late('Cache-Control', 'private')] },
        (_req, res) => void res.set('ETag', '"page"').send('0123456789'),
      );
      expect((await ask('/a', { Range: 'bytes=2-3' })).status).toBe(206);
      expect((await ask('/a', { 'If-None-Match': '"page"' })).status).toBe(304);
      expect((await ask()).status).toBe(200);
      expect(runs()).toBe(3);
    });
  });

  it.each([
    ['2.1.1', cookieSession],
    ['2.1.0', cookieSession210],
  ] as const)(
    'a response is not stored when cookie-session %s after the cache sets its cookie',
    async (_version, make) => {
      const kit = kitForTest({ url: url() });
      const skipped = eventsOf(kit, 'cache:skipped');
      let visits = 0;
      const app = express().set('env', 'test');
      app.get('/', kit.cache({ ttl: '1m' }), make({ keys: ['k'] }), (req, res) => {
        Object.assign(req.session ?? {}, { visit: ++visits });
        res.send('page');
      });
      const address = await serve(app);
      const cookies = [];
      for (let client = 0; client < 2; client++)
        cookies.push((await send(address)).headers['set-cookie']?.[0]);
      expect(new Set(cookies).size).toBe(2);
      expect(visits).toBe(2);
      expect(skipped).toHaveLength(2);
    },
  );

  it('a response is not stored when kit.session after the cache sets its rolling cookie', async () => {
    const kit = kitForTest({ url: url() });
    const session = kit.session({ secret: 'a secret for this test', rolling: true });
    const app = express().set('env', 'test');
    app.get('/login', session, (req, res) => {
      Object.assign(req.session, { seen: true });
      res.send('in');
    });
    let runs = 0;
    app.get('/page', kit.cache({ ttl: '1m' }), session, (_req, res) => {
      runs++;
      res.send('page');
    });
    const address = await serve(app);
    const cookie = String((await send(`${address}/login`)).headers['set-cookie']).split(';')[0] ?? '';
    for (let visit = 0; visit < 2; visit++) {
      const { headers } = await send(`${address}/page`, { headers: { Cookie: cookie } });
      expect(headers['set-cookie']?.[0]).toContain(cookie);
    }
    expect(runs).toBe(2);
  });

  it.each([
    ['1.8', compression],
    ['1.7.4', compression17],
  ] as const)(
    'a response is stored once for all encodings when compression %s runs before the cache',
    async (_version, make) => {
      const { ask, runs } = await site(
        url(),
        { ttl: '1m', above: [make({ threshold: 0 })] },
        (_req, res) => void res.type('text').send('page '.repeat(100)),
      );
      const plain = await ask();
      for (const encoding of ['gzip', 'deflate', 'identity']) {
        const { headers, rawHeaders } = await ask('/a', { 'Accept-Encoding': encoding });
        expect(headers['content-encoding']).toBe(encoding === 'identity' ? undefined : encoding);
        expect(headers.vary).toBe('Accept-Encoding');
        expect(rawHeaders.filter((name) => name === 'Vary')).toHaveLength(1);
      }
      expect(plain.text).toBe('page '.repeat(100));
      expect(runs()).toBe(1);
    },
  );

  it('the X-Response-Time that response-time sets after the cache is not stored', async () => {
    const { ask } = await site(
      url(),
      { ttl: '1m', below: [responseTime()] },
      (_req, res) => void res.send('page'),
    );
    expect((await ask()).headers['x-response-time']).toBeDefined();
    const hit = await ask();
    expect(hit.headers.age).toBeDefined();
    expect(hit.headers['x-response-time']).toBeUndefined();
  });

  it('a response is not stored when kit.session replaces it by an error', async () => {
    const kit = kitForTest({ url: url() });
    const skipped = eventsOf(kit, 'cache:skipped');
    let runs = 0;
    const app = express().set('env', 'test');
    app.get(
      '/',
      kit.cache({ ttl: '1m' }),
      kit.session({ secret: 'a secret for this test' }),
      (_req, res, next) => {
        onHeaders(res, () => res.setHeader('X-Late', 'yes'));
        next();
      },
      (req, res) => {
        runs++;
        // A session that JSON cannot represent.
        if (runs === 1) Object.assign(req.session, { circle: req.session });
        res.send('page');
      },
    );
    const address = await serve(app);
    const first = await send(address);
    expect([first.status, first.headers['x-late']]).toEqual([500, undefined]);
    expect((await send(address)).text).toBe('page');
    expect(runs).toBe(2);
    expect(skipped.map(({ reason }) => reason)).toEqual(['session-read', 'session-read']);
  });
});
