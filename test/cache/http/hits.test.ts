import express, { type RequestHandler } from 'express';
import { beforeAll, expect, it } from 'vitest';
import type { CacheOptions } from '../../../src/index.ts';
import { redisUrl } from '../../support/context.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { type Answer, send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

const ALL_BYTES = Buffer.from(Uint8Array.from({ length: 256 }, (_, byte) => byte));
/** Fields of the connection, and those that this cache adds. */
const PER_HOP = ['Connection', 'Keep-Alive', 'Age', 'Cache-Status', 'Transfer-Encoding', 'Content-Length'];

/** Names and values, spelled and ordered as they were sent. */
function fieldsOf({ rawHeaders }: Answer): [string, string][] {
  const fields: [string, string][] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    fields.push([rawHeaders[at] ?? '', rawHeaders[at + 1] ?? '']);
  }
  return fields.filter(([name]) => !PER_HOP.includes(name) && name !== 'Date');
}

describeOnBothEngines('a stored response', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function cached(handler: RequestHandler, options: Partial<CacheOptions> = {}) {
    const kit = kitForTest({ url: url() });
    let runs = 0;
    const app = express();
    app.disable('x-powered-by');
    app.all('/{*path}', kit.cache({ ttl: '1m', ...options }), (req, res, next) => {
      runs++;
      return handler(req, res, next);
    });
    return { kit, address: await serve(app), runs: () => runs };
  }

  /** The responses to two clients, of which the second is a hit. */
  async function missAndHit(handler: RequestHandler): Promise<{ miss: Answer; hit: Answer }> {
    const { address, runs } = await cached(handler);
    const askedAt = Date.now();
    const miss = await send(`${address}/a`);
    const answeredAt = Date.now();
    const hit = await send(`${address}/a`);
    expect(runs()).toBe(1);
    expect(hit.status).toBe(miss.status);
    expect(hit.body.equals(miss.body), 'byte for byte').toBe(true);
    expect(fieldsOf(hit)).toEqual(fieldsOf(miss));
    const storedDate = Date.parse(String(hit.headers.date));
    expect(storedDate, 'the Date of the first response').toBeLessThanOrEqual(answeredAt);
    expect(storedDate).toBeGreaterThan(askedAt - 1_000);
    expect(miss.headers.age).toBeUndefined();
    expect(hit.headers.age).toMatch(/^\d+$/);
    return { miss, hit };
  }

  it('a hit has the status, the headers and the body of the first response, and the spelling of its header names', async () => {
    const { hit } = await missAndHit((_req, res) => {
      res.setHeader('X-CamelCase', 'Grüße'.normalize('NFC'));
      res.setHeader('x-lower', ['one', 'two']);
      res.setHeader('Link', ['</a>; rel=next', '</b>; rel=prev']);
      res.setHeader('X-Number', 7);
      res.status(200).json({ hello: 'wörld ☃' });
    });
    expect(fieldsOf(hit).filter(([name]) => name === 'x-lower')).toEqual([
      ['x-lower', 'one'],
      ['x-lower', 'two'],
    ]);
  });

  it.each<[string, RequestHandler]>([
    ['a Buffer', (_req, res) => void res.type('bin').send(ALL_BYTES)],
    ['a Uint8Array', (_req, res) => void res.end(new Uint8Array(ALL_BYTES))],
    ['a string', (_req, res) => void res.send('Grüße ☃ 🎉')],
    ['a latin1 string', (_req, res) => void res.end(ALL_BYTES.toString('latin1'), 'latin1')],
    ['a hex string', (_req, res) => void res.end(ALL_BYTES.toString('hex'), 'hex')],
    [
      'chunks of several kinds',
      (_req, res) => {
        res.type('bin');
        res.write(ALL_BYTES);
        res.write('Grüße');
        res.write(ALL_BYTES.toString('base64'), 'base64');
        setImmediate(() => {
          res.write(new Uint8Array([0, 255]));
          res.end('end');
        });
      },
    ],
    [
      'chunks of a declared length',
      (_req, res) => {
        res.setHeader('Content-Length', 512);
        res.write(ALL_BYTES);
        res.end(ALL_BYTES);
      },
    ],
    ['nothing', (_req, res) => void res.end()],
  ])('a hit is byte for byte the first response when its body was %s', async (_, handler) => {
    const { hit } = await missAndHit(handler);
    expect(hit.headers['content-length']).toBe(String(hit.body.length));
  });

  it('a hit has the headers that the handler passed to writeHead(), as an object or as a list', async () => {
    const { hit } = await missAndHit((_req, res) => {
      res.setHeader('X-Before', 'kept');
      res.writeHead(200, 'Fine', { 'Content-Type': 'text/x-test', 'X-Several': ['1', '2'] });
      res.end('body');
    });
    expect(hit.headers).toMatchObject({
      'content-type': 'text/x-test',
      'x-before': 'kept',
      'x-several': '1, 2',
    });
    await missAndHit((_req, res) => {
      res.writeHead(200, ['Content-Type', 'text/x-list', 'X-Several', '1', 'X-Several', '2']);
      res.end('body');
    });
  });

  it('Cache-Status reports a hit and a miss under the configured name (RFC 9211), and is absent with `false`', async () => {
    const handler: RequestHandler = (_req, res) => void res.send('body');
    const named = await cached(handler, { cacheStatus: 'shop-cache' });
    expect((await send(`${named.address}/a`)).headers['cache-status']).toBe(
      'shop-cache; fwd=uri-miss; stored',
    );
    expect((await send(`${named.address}/a`)).headers['cache-status']).toMatch(
      /^shop-cache; hit; ttl=(60|59)$/,
    );
    const usual = await cached(handler);
    expect((await send(`${usual.address}/a`)).headers['cache-status']).toBe(
      'redis-kit; fwd=uri-miss; stored',
    );
    const silent = await cached(handler, { cacheStatus: false });
    for (const answer of [await send(`${silent.address}/a`), await send(`${silent.address}/a`)]) {
      expect(answer.headers['cache-status']).toBeUndefined();
    }
  });

  it('If-None-Match with the stored ETag gets a 304 without a body, and with another ETag the whole response', async () => {
    const { address, runs } = await cached((_req, res) => void res.send('body'));
    const { headers } = await send(`${address}/a`);
    const etag = String(headers.etag);
    for (const tag of [etag, `"x", ${etag}`, etag.replace('W/', ''), '*']) {
      const answer = await send(`${address}/a`, { headers: { 'If-None-Match': tag } });
      expect([answer.status, answer.text], tag).toEqual([304, '']);
      expect(answer.headers.etag).toBe(etag);
      expect(answer.headers['content-length']).toBeUndefined();
    }
    expect((await send(`${address}/a`, { headers: { 'If-None-Match': '"other"' } })).text).toBe('body');
    expect(runs()).toBe(1);
  });

  it('If-Modified-Since is compared with Last-Modified, or with the stored Date in its absence', async () => {
    const [before, then, later] = [1, 2, 3].map((day) => new Date(Date.UTC(2020, 0, day)).toUTCString());
    const dated = await cached((_req, res) => void res.set('Last-Modified', then).send('body'));
    const statusOf = async (address: string, since: string, tag?: string) => {
      const headers = { 'If-Modified-Since': since, ...(tag === undefined ? {} : { 'If-None-Match': tag }) };
      return (await send(`${address}/a`, { headers })).status;
    };
    await send(`${dated.address}/a`);
    expect(await statusOf(dated.address, String(before))).toBe(200);
    expect(await statusOf(dated.address, String(then))).toBe(304);
    expect(await statusOf(dated.address, String(later))).toBe(304);
    expect(await statusOf(dated.address, String(later), '"other"'), 'the tag goes first').toBe(200);
    const undated = await cached((_req, res) => void res.send('body'));
    await send(`${undated.address}/a`);
    // Node writes the Date of the first response, which may lie in the second before or after the stored one.
    const { headers: stored } = await send(`${undated.address}/a`);
    expect(await statusOf(undated.address, String(stored.date))).toBe(304);
    expect(await statusOf(undated.address, String(later))).toBe(200);
    expect([dated.runs(), undated.runs()]).toEqual([1, 1]);
  });

  it('a HEAD gets the stored response to a GET without its body, and the response to a HEAD is never stored', async () => {
    const { address, runs } = await cached((_req, res) => void res.send('body'));
    await send(`${address}/a`, { method: 'HEAD' });
    await send(`${address}/a`, { method: 'HEAD' });
    expect(runs()).toBe(2);
    await send(`${address}/a`);
    const head = await send(`${address}/a`, { method: 'HEAD' });
    expect(runs()).toBe(3);
    expect(head).toMatchObject({ status: 200, text: '', headers: { 'content-length': '4' } });
    expect(head.headers.age).toBeDefined();
  });

  it('the stored response is selected by host, path and query, and by the case of the host', async () => {
    const { address, runs } = await cached((req, res) => void res.send(`${req.headers.host}${req.url}`));
    const ask = async (path: string, host: string) =>
      (await send(`${address}${path}`, { headers: { Host: host } })).text;
    for (const path of ['/a', '/a?q=1', '/a?q=2', '/b', '/a/']) {
      for (const host of ['one.example', 'two.example']) {
        expect(await ask(path, host)).toBe(`${host}${path}`);
        expect(await ask(path, host)).toBe(`${host}${path}`);
      }
    }
    expect(runs()).toBe(10);
    expect(await ask('/a', 'ONE.example')).toBe('ONE.example/a');
  });

  it('the stored response is selected by the request headers in its Vary', async () => {
    const { address, runs } = await cached((req, res) => {
      res.vary('Accept-Language');
      res.send(`in ${req.headers['accept-language']}`);
    });
    const ask = (language: string) =>
      send(`${address}/a`, { headers: { 'Accept-Language': language, Accept: `text/${runs()}` } });
    expect((await ask('de')).text).toBe('in de');
    expect((await ask('de')).headers.age).toBeDefined();
    const other = await ask('fr');
    expect(other.text).toBe('in fr');
    expect(other.headers['cache-status']).toContain('fwd=vary-miss');
    expect((await ask('fr')).headers.age).toBeDefined();
    expect((await send(`${address}/a`)).text).toBe('in undefined');
    expect(runs()).toBe(3);
  });

  it('a hit emits cache:hit, and a miss emits cache:miss', async () => {
    const { kit, address } = await cached(
      (req, res) => void res.send(req.url === '/no' ? res.status(404) && '' : 'body'),
    );
    const names = ['cache:miss', 'cache:stored', 'cache:hit', 'cache:skipped'] as const;
    const events = names.map((name) => eventsOf(kit, name));
    await send(`${address}/a`);
    await send(`${address}/a`);
    await send(`${address}/no`);
    await until('the event is emitted', () => events[1]?.length === 1);
    expect(events).toMatchObject([
      [{ url: '/a' }, { url: '/no' }],
      [{ url: '/a' }],
      [{ url: '/a' }],
      [{ url: '/no', reason: 'status' }],
    ]);
  });

  it('a stored response expires after its ttl', async () => {
    const { address, runs } = await cached((_req, res) => void res.send(`body ${runs()}`), { ttl: '150ms' });
    expect((await send(`${address}/a`)).text).toBe('body 1');
    await until('the handler runs again', async () => (await send(`${address}/a`)).text !== 'body 1');
    expect(runs()).toBe(2);
  });
});

it('a stored response ages by the clock of the kit, and expires at the time in its stored value', async () => {
  let now = 1_700_000_000_000;
  const kit = kitForTest({ url: 'memory:', clock: { now: () => now } });
  let runs = 0;
  const app = express();
  app.get('/', kit.cache({ ttl: '10s' }), (_req, res) => void res.send(`body ${++runs}`));
  const address = await serve(app);
  await send(address);
  for (const [passed, age, left] of [
    [0, '0', 10],
    [1_999, '1', 8],
    [8_000, '9', 0],
  ] as const) {
    now += passed;
    const { headers } = await send(address);
    expect([headers.age, headers['cache-status']]).toEqual([age, `redis-kit; hit; ttl=${left}`]);
  }
  now += 1;
  expect((await send(address)).text).toBe('body 2');
  now -= 5_000;
  expect((await send(address)).headers.age, 'never negative').toBe('0');
});

it('a stored response is shared only by kits with the same prefix', async () => {
  const answering = async (kit: Pick<ReturnType<typeof kitForTest>, 'cache'>, text: string) => {
    const app = express();
    app.get('/a', kit.cache({ ttl: '1m' }), (_req, res) => void res.send(text));
    const address = await serve(app);
    return (await send(`${address}/a`, { headers: { Host: 'one.example' } })).text;
  };
  const kit = kitForTest({ url: redisUrl() });
  expect(await answering(kit, 'first')).toBe('first');
  expect(await answering(kitForTest({ url: redisUrl(), prefix: kit.prefix }), 'same prefix')).toBe('first');
  expect(await answering(kitForTest({ url: redisUrl() }), 'other prefix')).toBe('other prefix');
  expect(await answering(kit.namespace('tenant'), 'namespace')).toBe('namespace');
});
