import { once } from 'node:events';
import { request } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import express, { type RequestHandler } from 'express';
import { beforeAll, expect, it } from 'vitest';
import type { CacheOptions } from '../../../src/index.ts';
import { ask as askRaw, Gate } from '../../http/exchange.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

const BYTES = Buffer.from(Uint8Array.from({ length: 256 }, (_, byte) => byte));
const MEBIBYTE = 2 ** 20;

describeOnBothEngines('a body behind the cache', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function page(
    handler: RequestHandler,
    options: Partial<CacheOptions> & { above?: RequestHandler } = {},
  ) {
    const { above = (_req, _res, next) => next(), ...cache } = options;
    const kit = kitForTest({ url: url() });
    const [stored, skipped] = [eventsOf(kit, 'cache:stored'), eventsOf(kit, 'cache:skipped')];
    let runs = 0;
    const app = express().set('env', 'test');
    app.use(above, kit.cache({ ttl: '1m', ...cache }), (req, res, next) => {
      runs++;
      return handler(req, res, next);
    });
    const address = await serve(app);
    const reasons = () => skipped.map(({ reason }) => reason);
    const port = Number(new URL(address).port);
    return { address, port, stored, reasons, runs: () => runs, ask: () => send(address) };
  }

  it.each<[BufferEncoding, string]>([
    ['utf8', 'Grüße ☃ 🎉'],
    ['utf16le', 'Grüße ☃ 🎉'],
    ['ucs2', 'Grüße'],
    ['latin1', BYTES.toString('latin1')],
    ['binary', BYTES.toString('latin1')],
    ['ascii', 'plain'],
    ['base64', BYTES.toString('base64')],
    ['base64url', BYTES.toString('base64url')],
    ['hex', BYTES.toString('hex')],
  ])('a body written in %s reaches all clients byte for byte', async (encoding, text) => {
    const { ask, runs } = await page((_req, res) => {
      res.write(text, encoding);
      res.write(new Uint8Array(BYTES).subarray(7, 9));
      res.write(text, encoding, () => res.end(text, encoding, () => undefined));
    });
    const whole = Buffer.from(text, encoding);
    const expected = Buffer.concat([whole, BYTES.subarray(7, 9), whole, whole]);
    for (const answer of [await ask(), await ask()]) expect(answer.body.equals(expected)).toBe(true);
    expect(runs()).toBe(1);
  });

  it('a handler may overwrite a buffer as soon as it has written the buffer', async () => {
    const { ask, runs } = await page((_req, res) => {
      const scratch = Buffer.from('first ');
      res.write(scratch, () => {
        scratch.fill('x');
        res.end('last');
      });
    });
    for (const answer of [await ask(), await ask()]) expect(answer.text).toBe('first last');
    expect(runs()).toBe(1);
  });

  it('a body from a pipeline keeps its back pressure, and a hit has the same bytes', async () => {
    let wasFull = false;
    const { ask, runs } = await page(async (_req, res) => {
      wasFull = !res.write(Buffer.alloc(MEBIBYTE / 2, 'a'));
      await pipeline(Readable.from(Array.from({ length: 64 }, () => BYTES)), res);
    });
    const expected = Buffer.concat([Buffer.alloc(MEBIBYTE / 2, 'a'), ...Array(64).fill(BYTES)]);
    for (const answer of [await ask(), await ask()]) expect(answer.body.equals(expected)).toBe(true);
    expect([runs(), wasFull]).toEqual([1, true]);
  });

  it('a body over maxBody is sent piece by piece as its handler writes it, and is not stored', async () => {
    const pieces = Array.from({ length: 40 }, (_, at) =>
      Buffer.alloc(MEBIBYTE / 20, String.fromCharCode(65 + at)),
    );
    const { ask, runs, reasons, stored } = await page((_req, res) => pipeline(Readable.from(pieces), res));
    for (const answer of [await ask(), await ask()]) {
      expect(answer.body.equals(Buffer.concat(pieces))).toBe(true);
      expect(answer.headers['transfer-encoding']).toBe('chunked');
    }
    expect([runs(), reasons(), stored]).toEqual([2, ['too-large', 'too-large'], []]);
  });

  it.each<[string, RequestHandler]>([
    [
      'its source broke',
      (_req, res) => {
        const source = Readable.from(
          (async function* () {
            yield BYTES;
            throw new Error('on purpose');
          })(),
        );
        pipeline(source, res).catch(() => undefined);
      },
    ],
    [
      'its source broke before a declared end',
      (_req, res) => {
        res.setHeader('Content-Length', 512);
        res.write(BYTES, () => res.destroy(new Error('on purpose')));
      },
    ],
    [
      'it ended before the end that it had declared',
      (_req, res) => {
        res.setHeader('Content-Length', 512);
        res.write(BYTES);
        res.end(() => undefined);
        res.socket?.end();
      },
    ],
    [
      'it was destroyed after its end was called',
      (_req, res) => {
        res.setHeader('Content-Length', 512);
        res.end(BYTES);
        res.destroy();
      },
    ],
  ])('a body is not stored when %s', async (_, handler) => {
    let isWhole = false;
    const { ask, runs, stored } = await page((req, res, next) =>
      isWhole ? void res.send('whole') : handler(req, res, next),
    );
    await expect(ask()).rejects.toThrow();
    isWhole = true;
    expect((await ask()).text).toBe('whole');
    expect(runs()).toBe(2);
    await until('the whole is stored', () => stored.length === 1);
  });

  it('a range request gets no 206 when the handler cuts the body off', async () => {
    const { address, stored, reasons } = await page((_req, res) => {
      res.setHeader('Content-Length', 512);
      res.write(BYTES);
      res.end();
    });
    await expect(send(address, { headers: { Range: 'bytes=0-9' } })).rejects.toThrow();
    expect([reasons(), stored]).toEqual([['incomplete'], []]);
  });

  it('a body over maxBody without Accept-Ranges is sent whole to a client that asks for a part', async () => {
    const { address, reasons } = await page((_req, res) => {
      res.setHeader('Content-Length', MEBIBYTE * 2);
      return pipeline(Readable.from([Buffer.alloc(MEBIBYTE, 'a'), Buffer.alloc(MEBIBYTE, 'b')]), res);
    });
    const { status, body } = await send(address, { headers: { Range: 'bytes=0-9' } });
    expect([status, body.length, reasons()]).toEqual([200, 2 * MEBIBYTE, ['too-large']]);
  });

  it('a body is stored when its client disconnects in the middle and its handler writes all of it', async () => {
    const [first, rest] = [new Gate(), new Gate()];
    const { address, ask, runs, stored } = await page(
      async (_req, res) => {
        res.write('begun ');
        await rest.promise;
        res.end('and ended');
      },
      {
        above: (_req, res, next) => {
          res.on('close', first.open);
          next();
        },
      },
    );
    const client = request(address, { agent: false }, (response) => response.destroy());
    client.on('error', () => undefined).end();
    await first.promise;
    rest.open();
    await until('it is stored', () => stored.length === 1);
    expect((await ask()).text).toBe('begun and ended');
    expect([runs(), stored.length]).toEqual([1, 1]);
  });

  it('an event stream reaches its client event by event, and is not stored', async () => {
    const streams: import('express').Response[] = [];
    const { address, reasons, stored } = await page((_req, res) => {
      res.set('Content-Type', 'text/event-stream').flushHeaders();
      res.write('data: hello\n\n');
      streams.push(res);
    });
    for (let client = 0; client < 2; client++) {
      const asked = request(address, { agent: false }).end();
      const [response] = await once(asked, 'response');
      const events = response[Symbol.asyncIterator]();
      expect(String((await events.next()).value)).toBe('data: hello\n\n');
      streams[client]?.write('data: again\n\n');
      expect(String((await events.next()).value)).toBe('data: again\n\n');
      streams[client]?.end();
      expect((await events.next()).done).toBe(true);
    }
    expect([reasons(), stored]).toEqual([['event-stream', 'event-stream'], []]);
  });

  it('a response with trailers is sent with its trailers, and is not stored', async () => {
    const { port, reasons } = await page((_req, res) => {
      res.setHeader('Trailer', 'X-Sum');
      res.write('body');
      res.addTrailers({ 'X-Sum': '7' });
      res.end();
    });
    for (let client = 0; client < 2; client++) {
      expect((await askRaw(port)).rawBody).toBe('4\r\nbody\r\n0\r\nX-Sum: 7\r\n\r\n');
    }
    expect(reasons()).toEqual(['trailer', 'trailer']);
  });

  it('early hints reach the client of a miss, and are not stored', async () => {
    const { port, runs } = await page((_req, res) => {
      res.writeEarlyHints({ link: '</style.css>; rel=preload' }, () => undefined);
      res.end('body');
    });
    const [miss, hit] = [await askRaw(port), await askRaw(port)];
    expect(miss.text).toMatch(
      /^HTTP\/1\.1 103 Early Hints\r\nLink: <\/style\.css>; rel=preload\r\n\r\nHTTP\/1\.1 200 OK/,
    );
    expect(hit.text).toMatch(/^HTTP\/1\.1 200 OK/);
    expect(hit.header('link')).toBeUndefined();
    expect([hit.body, runs()]).toEqual(['body', 1]);
  });
});
