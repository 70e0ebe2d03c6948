import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import compression from 'compression';
import express, { type RequestHandler } from 'express';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CacheOptions } from '../../../src/index.ts';
import { EXPRESS } from '../../http/frameworks.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { type Answer, type Sent, send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

const compression17 = createRequire(import.meta.url)('compression17') as typeof compression;

const MEBIBYTE = 2 ** 20;
const FILE = Buffer.from(Uint8Array.from({ length: 2 * MEBIBYTE }, (_, at) => (at * 7 + (at >> 9)) & 255));

/** Ranges that clients ask for. */
const RANGES: readonly (readonly [range: string, status: number])[] = [
  ['bytes=0-99', 206],
  ['bytes=70000-70999', 206],
  ['bytes=-100', 206],
  ['bytes=2097151-', 206],
  ['bytes=65535-65536', 206],
  ['bytes=0-', 206],
  ['bytes=0-1,5-6', 200],
  ['lines=0-1', 200],
];

describeOnBothEngines('a request for a part of a response that is not stored', (url) => {
  let directory = '';
  beforeAll(async () => {
    await loadCacheScripts(url());
    directory = await mkdtemp(join(tmpdir(), 'files-'));
    await writeFile(join(directory, 'film.mp4'), FILE);
    await writeFile(join(directory, 'small.txt'), 'x'.repeat(1_000));
  });
  afterAll(() => rm(directory, { recursive: true }));

  const essence = ({ status, headers, body }: Answer) => {
    const { 'cache-status': _, date: __, ...rest } = headers;
    return { status, headers: rest, body: body.toString('latin1') };
  };

  describe.each(EXPRESS)('on %s', (_, makeApp) => {
    /** The same app with the kit and without it. */
    async function both(
      above: readonly RequestHandler[],
      handler: RequestHandler,
      options: CacheOptions = {},
    ) {
      const kit = kitForTest({ url: url() });
      const skipped = eventsOf(kit, 'cache:skipped');
      const addresses = await Promise.all(
        [[kit.cache({ ttl: '1m', ...options })], []].map((cache) => {
          const app = makeApp();
          for (const middleware of [...above, ...cache, handler]) app.use(middleware as RequestHandler);
          return serve(app);
        }),
      );
      const [cached = '', plain = ''] = addresses;
      return { kit, cached, plain, skipped };
    }

    it.each(RANGES)(
      'the first and later requests for %s get the same as without the kit',
      async (range, status) => {
        const { cached, plain, skipped } = await both([], express.static(directory));
        const headers = { Range: range };
        const expected = essence(await send(`${plain}/film.mp4`, { headers }));
        expect(expected.status).toBe(status);
        for (let time = 0; time < 3; time++) {
          const { headers: answered, ...rest } = essence(await send(`${cached}/film.mp4`, { headers }));
          const { age, ...others } = answered;
          expect({ ...rest, headers: others }).toEqual(expected);
          // The part itself is stored if it is no larger than maxBody.
          const isStored = time === 2 && status === 206 && Number(others['content-length']) <= MEBIBYTE;
          expect(age).toBe(isStored ? '0' : undefined);
        }
        expect(skipped[0]?.reason).toBe('too-large');
      },
    );

    it.each<[string, RequestHandler]>([
      ['private', (_req, res, next) => next(void res.set('Cache-Control', 'private'))],
      ['with a cookie', (_req, res, next) => next(void res.cookie('a', 'b'))],
      ['of a session', (req, _res, next) => next(void Reflect.get(req, 'session'))],
    ])('a client gets a part of an unstored response that is %s', async (_name, below) => {
      const { cached } = await both(
        [],
        makeApp().use(below, express.static(directory, { cacheControl: false })) as unknown as RequestHandler,
      );
      for (let time = 0; time < 2; time++) {
        const { status, text, headers } = await send(`${cached}/small.txt`, {
          headers: { Range: 'bytes=10-19' },
        });
        expect([status, text, headers['content-range']]).toEqual([206, 'x'.repeat(10), 'bytes 10-19/1000']);
      }
    });

    it('a range outside of the response gets a 416', async () => {
      const { cached } = await both([], express.static(directory));
      for (let time = 0; time < 2; time++) {
        const { status, headers } = await send(`${cached}/film.mp4`, {
          headers: { Range: 'bytes=9999999-' },
        });
        expect([status, headers['content-range']]).toEqual([416, `bytes */${FILE.length}`]);
      }
    });

    it('a range request gets the whole when the handler sends no Accept-Ranges', async () => {
      const { cached } = await both(
        [],
        (_req, res) => void res.set('Cache-Control', 'private').send('0123456789'),
      );
      for (let time = 0; time < 2; time++) {
        const { status, text } = await send(cached, { headers: { Range: 'bytes=0-1' } });
        expect([status, text]).toEqual([200, '0123456789']);
      }
    });

    it('a request with the ETag of the file in If-None-Match gets a 304, with or without Range', async () => {
      const { cached, plain } = await both([], express.static(directory));
      const etag = String((await send(`${plain}/film.mp4`)).headers.etag);
      for (const headers of [{ 'If-None-Match': etag }, { 'If-None-Match': etag, Range: 'bytes=0-1' }]) {
        for (let time = 0; time < 2; time++) {
          const { status, body } = await send(`${cached}/film.mp4`, { headers });
          expect([status, body.length]).toEqual([304, 0]);
        }
      }
    });

    it('the whole is stored, after requests for parts, as soon as the response may be stored', async () => {
      let isPrivate = true;
      const files = express.static(directory, { cacheControl: false });
      const { cached, kit } = await both([], (req, res, next) => {
        if (isPrivate) res.set('Cache-Control', 'private');
        files(req, res, next);
      });
      const stored = eventsOf(kit, 'cache:stored');
      const part = { headers: { Range: 'bytes=0-1' } };
      for (let time = 0; time < 2; time++) expect((await send(`${cached}/small.txt`, part)).status).toBe(206);
      isPrivate = false;
      expect((await send(`${cached}/small.txt`)).body).toHaveLength(1_000);
      await expect.poll(() => stored.length).toBe(1);
      const hit = await send(`${cached}/small.txt`, part);
      expect([hit.status, hit.headers.age]).toEqual([206, '0']);
    });
  });
});

describeOnBothEngines('a part of a response with compression()', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  const TEXT = Array.from({ length: 1_000 }, (_, at) => at % 10).join('');
  const compressions = [
    ['1.8', compression],
    ['1.7.4', compression17],
  ] as const;

  describe.each(compressions)('%s', (_, compress) => {
    async function served(where: 'above' | 'below') {
      const kit = kitForTest({ url: url() });
      const [outer, inner] = [compress({ threshold: 0 }) as RequestHandler, kit.cache({ ttl: '1m' })];
      const app = express().use(...(where === 'above' ? [outer, inner] : [inner, outer]));
      app.use((_req, res) => void res.set('ETag', '"strong"').type('text').send(TEXT));
      const address = await serve(app);
      return (headers: NonNullable<Sent['headers']>) =>
        send(address, { headers: { 'Accept-Encoding': 'gzip', ...headers } });
    }

    it('compression() before the cache does not encode a part, new or stored', async () => {
      const ask = await served('above');
      for (let time = 0; time < 2; time++) {
        const { status, headers, text } = await ask({ Range: 'bytes=10-19' });
        expect([status, headers['content-encoding'], text]).toEqual([206, undefined, '0123456789']);
        expect([headers['content-range'], headers['content-length']]).toEqual(['bytes 10-19/1000', '10']);
      }
      expect((await ask({})).headers['content-encoding']).toBe('gzip');
    });

    it.runIf(compress === compression)(
      'a client with If-Range that accepts gzip gets the encoded whole',
      async () => {
        const ask = await served('above');
        const etag = String((await ask({})).headers.etag);
        const { status, headers } = await ask({ Range: 'bytes=10-19', 'If-Range': etag });
        expect([status, headers['content-encoding']]).toEqual([200, 'gzip']);
        const plain = await ask({
          Range: 'bytes=10-19',
          'If-Range': etag,
          'Accept-Encoding': 'identity;q=1, *;q=0',
        });
        expect([plain.status, plain.text]).toEqual([206, '0123456789']);
      },
    );

    it('with compression() after the cache, a range selects bytes of the encoded whole', async () => {
      const ask = await served('below');
      const whole = await ask({});
      const { status, headers, body } = await ask({ Range: 'bytes=10-19' });
      expect([status, headers['content-encoding'], body]).toEqual([206, 'gzip', whole.body.subarray(10, 20)]);
    });
  });
});
