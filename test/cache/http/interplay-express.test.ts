import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import compression from 'compression';
import express, { type RequestHandler, Router } from 'express';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CacheOptions } from '../../../src/index.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { type Sent, send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

const TEXT = 'a line of a file that is served, again and again\n'.repeat(40);
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'redis-kit-test-'));
  await writeFile(join(directory, 'page.txt'), TEXT);
});

afterAll(() => rm(directory, { recursive: true, force: true }));

describeOnBothEngines('kit.cache under Express', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function page(handler: RequestHandler, options: Partial<CacheOptions> = {}) {
    const kit = kitForTest({ url: url() });
    let runs = 0;
    const app = express().set('env', 'test');
    app.use(kit.cache({ ttl: '1m', ...options }), (req, res, next) => {
      runs++;
      return handler(req, res, next);
    });
    const address = await serve(app);
    const ask = (headers: Sent['headers'] = {}, method = 'GET', path = '/page.txt') =>
      send(`${address}${path}`, { headers, method });
    return { kit, ask, runs: () => runs };
  }

  const FILES: readonly (readonly [name: string, handler: () => RequestHandler])[] = [
    ['res.sendFile', () => (_req, res) => res.sendFile('page.txt', { root: directory })],
    ['express.static', () => express.static(directory)],
    ['res.download', () => (_req, res) => res.download(join(directory, 'page.txt'))],
    ['res.send', () => (_req, res) => res.type('text').send(TEXT)],
  ];

  describe.each(FILES)('with %s', (_, handler) => {
    it('a hit equals the first response', async () => {
      const { ask, runs } = await page(handler());
      const [miss, hit] = [await ask(), await ask()];
      for (const { status, text } of [miss, hit]) expect([status, text]).toEqual([200, TEXT]);
      for (const name of ['etag', 'last-modified', 'content-type', 'content-length', 'accept-ranges'])
        expect(hit.headers[name], name).toBe(miss.headers[name]);
      expect(runs()).toBe(1);
    });

    it.each<[string, number, string, Sent['headers']]>([
      ['If-None-Match', 304, '', { 'If-None-Match': '*' }],
      ['Range', 206, TEXT.slice(5, 10), { Range: 'bytes=5-9' }],
      ['a Range of no byte', 416, '', { Range: 'bytes=99999-' }],
      ['a condition that is not met', 200, TEXT, { 'If-None-Match': '"other"' }],
    ])('the whole page is stored when the first request has %s', async (_name, status, text, headers) => {
      const { ask, runs } = await page(handler());
      const first = await ask(headers);
      expect([first.status, first.text]).toEqual([status, text]);
      const whole = await ask();
      expect([whole.status, whole.text, runs()]).toEqual([200, TEXT, 1]);
      const again = await ask(headers);
      expect([again.status, again.text, runs()]).toEqual([status, text, 1]);
      for (const name of ['etag', 'content-range', 'content-length'])
        expect(again.headers[name], name).toBe(first.headers[name]);
    });

    it('a first request with the ETag of the page gets a 304, and the page is stored', async () => {
      const etag = String((await (await page(handler())).ask()).headers.etag);
      const { ask, runs } = await page(handler());
      for (let client = 0; client < 2; client++) {
        const { status, body } = await ask({ 'If-None-Match': etag });
        expect([status, body.length]).toEqual([304, 0]);
      }
      expect(runs()).toBe(1);
    });

    it('a HEAD gets the stored response to a GET, and the response to a HEAD is not stored', async () => {
      const { ask, runs } = await page(handler());
      const unstored = await ask({}, 'HEAD');
      expect([unstored.status, unstored.headers['content-length']]).toEqual([200, String(TEXT.length)]);
      expect((await ask()).text).toBe(TEXT);
      const stored = await ask({}, 'HEAD');
      expect([stored.status, stored.text, stored.headers.etag]).toEqual([200, '', unstored.headers.etag]);
      expect(stored.headers['content-length']).toBe(String(TEXT.length));
      expect(runs()).toBe(2);
    });
  });

  it.each(['outside', 'inside'] as const)(
    'with compression() %s, the cache answers conditions, ranges and HEAD in the coding of each client',
    async (where) => {
      const kit = kitForTest({ url: url() });
      let runs = 0;
      const [compress, cache] = [compression({ threshold: 0 }), kit.cache({ ttl: '1m' })];
      const app = express();
      app.use(...(where === 'outside' ? [compress, cache] : [cache, compress]), (_req, res) => {
        runs++;
        res.type('text').send(TEXT);
      });
      const address = await serve(app);
      const ask = (headers: NonNullable<Sent['headers']>, method = 'GET') =>
        send(address, { headers, method });
      const zipped = { 'Accept-Encoding': 'gzip' };
      for (let round = 0; round < 2; round++) {
        const whole = await ask(zipped);
        expect([whole.headers['content-encoding'], gunzipSync(whole.body).toString()]).toEqual([
          'gzip',
          TEXT,
        ]);
        const plain = await ask({});
        expect([plain.headers['content-encoding'], plain.text]).toEqual([undefined, TEXT]);
        const etag = String(whole.headers.etag);
        for (const coding of [zipped, {}]) {
          expect((await ask({ ...coding, 'If-None-Match': etag })).status).toBe(304);
          expect((await ask(coding, 'HEAD')).body).toHaveLength(0);
        }
        const part = await ask({ Range: 'bytes=5-9' });
        expect([part.status, part.text]).toEqual([206, TEXT.slice(5, 10)]);
      }
      expect(runs).toBe(where === 'outside' ? 1 : 2);
    },
  );

  it('a redirect is stored if `statuses` names it', async () => {
    const { ask, runs } = await page((_req, res) => res.redirect(301, '/elsewhere?a=b'), {
      statuses: [200, 301],
    });
    for (const { status, headers, text } of [await ask(), await ask()]) {
      expect([status, headers.location]).toEqual([301, '/elsewhere?a=b']);
      expect(text).toContain('Redirecting to /elsewhere');
    }
    expect(runs()).toBe(1);
  });

  it('a handler may continue after it has sent its response', async () => {
    const app = express().set('env', 'test');
    const kit = kitForTest({ url: url() });
    let wentOn = 0;
    app.get('/', kit.cache({ ttl: '1m' }), (_req, res, next) => {
      res.json({ answer: 1 });
      next();
    });
    app.use((_req, res) => {
      wentOn++;
      if (!res.writableEnded) res.send('another');
    });
    const address = await serve(app);
    for (const { status, text } of [await send(address), await send(address)]) {
      expect([status, text]).toEqual([200, '{"answer":1}']);
    }
    expect(wentOn).toBe(1);
  });

  it.each<[string, RequestHandler]>([
    ['throws', () => fail()],
    ['rejects', async () => fail()],
    ['hands an error on', (_req, _res, next) => next(new Error('on purpose'))],
  ])('no 500 of a handler that %s is stored, and no response of an error handler', async (_, failing) => {
    const kit = kitForTest({ url: url() });
    const skipped = eventsOf(kit, 'cache:skipped');
    const app = express().set('env', 'test');
    const cache = kit.cache({ ttl: '1m' });
    let isBroken = true;
    const handler: RequestHandler = (req, res, next) =>
      isBroken ? failing(req, res, next) : void res.send('works');
    app.get('/plain', cache, handler);
    const handled = Router().get('/page', cache, handler);
    handled.use(
      ((_error, _req, res, _next) => void res.status(418).send('teapot')) as express.ErrorRequestHandler,
    );
    app.use('/handled', handled);
    const address = await serve(app);
    expect((await send(`${address}/plain`)).status).toBe(500);
    expect((await send(`${address}/handled/page`)).status).toBe(418);
    expect(skipped.map(({ url: of, reason }) => [of, reason])).toEqual([
      ['/plain', 'status'],
      ['/handled/page', 'status'],
    ]);
    isBroken = false;
    for (const path of ['/plain', '/handled/page', '/plain', '/handled/page'])
      expect((await send(`${address}${path}`)).text).toBe('works');
  });

  it('the response of the next route is stored when a handler calls next("route")', async () => {
    const kit = kitForTest({ url: url() });
    let runs = 0;
    const app = express();
    app.get('/{*path}', kit.cache({ ttl: '1m' }), (_req, _res, next) => next('route'));
    app.get('/{*path}', (_req, res) => void res.send(`next ${++runs}`));
    const address = await serve(app);
    for (let client = 0; client < 2; client++) expect((await send(address)).text).toBe('next 1');
  });
});

function fail(): never {
  throw new Error('on purpose');
}
