import { request } from 'node:http';
import express, { type RequestHandler, type Response } from 'express';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CacheOptions } from '../../../src/index.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { type Sent, send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

describeOnBothEngines('responses that are not stored', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function cached(handler: RequestHandler, options: Partial<CacheOptions> = {}) {
    const kit = kitForTest({ url: url() });
    const skipped = eventsOf(kit, 'cache:skipped');
    let runs = 0;
    const app = express();
    app.use(kit.cache({ ttl: '1m', ...options }), (req, res, next) => {
      runs++;
      return handler(req, res, next);
    });
    const address = await serve(app);
    return { kit, address, skipped, runs: () => runs };
  }

  /** The reasons of two equal requests, for both of which the handler ran. */
  async function reasons(handler: RequestHandler, options?: Partial<CacheOptions>, sent?: Sent) {
    const { address, skipped, runs } = await cached(handler, options);
    const first = await send(address, sent);
    const second = await send(address, sent);
    expect(runs()).toBe(2);
    expect(second.headers.age).toBeUndefined();
    expect(second.body.equals(first.body), 'and goes through untouched').toBe(true);
    return skipped.map(({ reason }) => reason);
  }

  const withHeader = (name: string, value: string | readonly string[]): RequestHandler => {
    return (_req, res) => void res.setHeader(name, value).end('body');
  };

  const RANGE = { 'Content-Range': 'bytes 0-3/9' };

  it.each<[string, RequestHandler, string]>([
    ['that sets a cookie', (_req, res) => void res.cookie('a', 'b').send('body'), 'set-cookie'],
    ['that says no-store', withHeader('Cache-Control', 'no-store'), 'no-store'],
    ['that says private', withHeader('Cache-Control', 'max-age=60, Private'), 'private'],
    ['that says no-cache', withHeader('Cache-Control', ['max-age=1', 'no-cache']), 'no-cache'],
    ['that varies on everything', withHeader('Vary', 'Accept, *'), 'vary'],
    ['that is a part', (_req, res) => void res.status(206).set(RANGE).send('body'), 'status'],
    ['that has trailers', withHeader('Trailer', 'X-Sum'), 'trailer'],
    ['that was not found', (_req, res) => void res.status(404).send('no'), 'status'],
    ['that redirects', (_req, res) => void res.redirect('/elsewhere'), 'status'],
    ['that is an error', (_req, _res, next) => next(new Error('on purpose')), 'status'],
  ])('a response %s is not stored', async (_, handler, reason) => {
    process.env.NODE_ENV = 'test';
    expect(await reasons(handler)).toEqual([reason, reason]);
  });

  it('a response is stored when a directive like no-store occurs only in a quoted string', async () => {
    const { address, runs } = await cached(
      withHeader('Cache-Control', 'max-age=60, note="no-store, private"'),
    );
    await send(address);
    await send(address);
    expect(runs(), 'is stored').toBe(1);
  });

  it('a body over maxBody is not stored, and a body of exactly maxBody is stored', async () => {
    const exact = await cached((_req, res) => void res.send('x'.repeat(1_000)), { maxBody: 1_000 });
    await send(exact.address);
    expect((await send(exact.address)).body.length).toBe(1_000);
    expect(exact.runs()).toBe(1);
    expect(await reasons((_req, res) => void res.send('x'.repeat(1_001)), { maxBody: 1_000 })).toContain(
      'too-large',
    );
    const streamed: RequestHandler = (_req, res) => {
      for (let chunk = 0; chunk < 11; chunk++) res.write('x'.repeat(100));
      res.end();
    };
    expect(await reasons(streamed, { maxBody: 1_000 })).toEqual(['too-large', 'too-large']);
  });

  it('the response to a request with Authorization is not stored, and the request gets no stored response', async () => {
    const { address, runs } = await cached((req, res) => void res.send(`for ${req.headers.authorization}`));
    const headers = { Authorization: 'Bearer t' };
    await send(address, { headers });
    expect((await send(address)).text).toBe('for undefined');
    expect((await send(address)).headers.age).toBeDefined();
    expect((await send(address, { headers })).text).toBe('for Bearer t');
    expect(runs()).toBe(3);
  });

  it.each(['POST', 'PUT', 'DELETE', 'OPTIONS'])(
    'the response to a %s request is not stored, and the request gets no stored response',
    async (method) => {
      const { address, runs } = await cached((req, res) => void res.send(req.method));
      await send(address);
      expect((await send(address, { method })).text).toBe(method);
      expect((await send(address, { method })).text).toBe(method);
      expect(runs()).toBe(3);
    },
  );

  it('the response to a skipped request is not stored, and the request gets no stored response', async () => {
    const { address, runs } = await cached((req, res) => void res.send(String(req.headers['x-preview'])), {
      skip: (req) => req.headers['x-preview'] !== undefined,
    });
    const headers = { 'X-Preview': '1' };
    expect((await send(address, { headers })).text).toBe('1');
    expect((await send(address)).text).toBe('undefined');
    expect((await send(address, { headers })).text).toBe('1');
    expect(runs()).toBe(3);
  });

  describe('a response that was cut off', () => {
    /** Whether a response that ends in this way is stored: the second request is a hit. */
    async function isStored(end: (res: Response) => void, declared?: number): Promise<boolean> {
      const { address, runs } = await cached((_req, res) => {
        if (runs() > 1) return void res.send('whole');
        if (declared !== undefined) res.setHeader('Content-Length', declared);
        res.write('begun');
        end(res);
      });
      await send(address).catch(expectCutOff);
      return (await send(address)).text !== 'whole';
    }

    it.each<[string, (res: Response) => void, number | undefined]>([
      ['since the handler destroyed it', (res) => void res.destroy(), undefined],
      [
        'since the handler destroyed it with an error',
        (res) => void res.destroy(new Error('on purpose')),
        undefined,
      ],
      ['since its socket was destroyed', (res) => void res.socket?.destroy(), undefined],
      ['since it is shorter than declared', (res) => res.socket?.destroy() && res.end(), 9],
    ])('a cut-off response is not stored, %s', async (_, end, declared) => {
      expect(await isStored(end, declared)).toBe(false);
    });

    it('a response is not stored when its client disconnects and its handler never ends it', async () => {
      let gone = false;
      const { address, runs } = await cached((_req, res) => {
        if (runs() > 1) return void res.send('whole');
        res.write('begun');
        res.on('close', () => {
          gone = true;
        });
      });
      const client = request(address, { agent: false }, (response) => response.destroy());
      client.on('error', expectCutOff).end();
      await until('the server knows', () => gone);
      expect((await send(address)).text).toBe('whole');
    });
  });
});

function expectCutOff(error: unknown): void {
  expect(String(error)).toMatch(/aborted|hang up|ECONNRESET|terminated/);
}

describe('the options of kit.cache', () => {
  it.each([
    [{ ttl: 0 }, '`ttl` is 0'],
    [{ ttl: '1 minute' }, "`ttl` is '1 minute'"],
    [{ ttl: '1m', maxBody: 0 }, '`maxBody` is 0'],
    [{ ttl: '1m', maxBody: 2 ** 30 }, '`maxBody`'],
    [{ ttl: '1m', cacheStatus: 'a b' }, '`cacheStatus`'],
    [{ ttl: '1m', cacheStatus: 1 }, '`cacheStatus` is 1'],
    [{ ttl: '1m', skip: true }, '`skip` is true'],
    [{ ttl: '1m', staleWhileRevalidate: 0 }, '`staleWhileRevalidate` is 0'],
    [{ tll: '1m' }, 'did you mean `ttl`?'],
    [null, 'options must be an object'],
  ])('kit.cache(%j) throws because of an invalid option', (options, part) => {
    const kit = kitForTest({ url: 'memory:' });
    expect(() => kit.cache(options as CacheOptions)).toThrow(part);
  });
});
