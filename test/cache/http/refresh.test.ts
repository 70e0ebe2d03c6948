import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { gunzipSync } from 'node:zlib';
import compression from 'compression';
import express, { type Express, type Request, type RequestHandler, Router } from 'express';
import expressSession from 'express-session';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { RedisKit } from '../../../src/index.ts';
import { EXPRESS } from '../../http/frameworks.ts';
import { describeOnBothEngines, eventsOf } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { send, serve } from '../../support/web.ts';
import { agingKit } from '../aging.ts';
import { loadCacheScripts } from '../scripts.ts';
import { type Site, type SiteOptions, site } from './site.ts';

const SECRET = 'a secret for this test';
const BODY = 'a page that is refreshed\n'.repeat(20_000);
const PIECES = Array.from({ length: 500 }, () => BODY.slice(0, BODY.length / 500));
let file: string;

beforeAll(async () => {
  file = join(await mkdtemp(join(tmpdir(), 'redis-kit-test-')), 'page.txt');
  await writeFile(file, BODY);
});

afterAll(() => rm(dirname(file), { recursive: true, force: true }));

describeOnBothEngines('the refresh of a stale response', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  const stalePage = (handler: RequestHandler, options: SiteOptions = {}) =>
    site(url(), { ttl: '10s', staleWhileRevalidate: '1h', ...options }, handler);

  /** Twice: requests the page, lets it become stale, requests it again and waits for its refresh. */
  async function expectRefresh({ kit, ask, pass, storedAll, runs }: Site, text = BODY): Promise<void> {
    const [stale, errors] = [eventsOf(kit, 'cache:stale'), eventsOf(kit, 'error')];
    expect((await ask()).text).toBe(text);
    await storedAll(1);
    for (let round = 2; round <= 3; round++) {
      await pass(11_000);
      expect((await ask()).text).toBe(text);
      await storedAll(round);
      expect(Number((await ask()).headers.age)).toBeLessThan(11);
    }
    expect([runs(), stale.length, errors]).toEqual([3, 2, []]);
  }

  it.each<[string, RequestHandler]>([
    ['responds at once', (_req, res) => void res.send(BODY)],
    ['streams', (_req, res) => pipeline(Readable.from(PIECES), res)],
    ['sends a file', (_req, res) => res.sendFile(file)],
    [
      'reads the body that a GET does not have',
      (req, res) => void req.resume().on('end', () => res.send(BODY)),
    ],
    [
      'reads its connection',
      ({ socket, ip, protocol }, res) => {
        res.send(socket.remoteAddress === ip && protocol === 'http' && !socket.destroyed ? BODY : 'no');
      },
    ],
    [
      'sends informational responses',
      (_req, res) => {
        res.writeProcessing();
        res.writeEarlyHints({ link: '</style.css>; rel=preload' });
        res.flushHeaders();
        res.cork();
        for (const piece of PIECES) res.write(piece);
        res.uncork();
        res.end();
      },
    ],
    [
      'sets timeouts',
      (req, res) => {
        req.setTimeout(60_000);
        res.setTimeout(60_000, () => undefined);
        req.socket.setNoDelay(true).setKeepAlive(true);
        res.send(BODY);
      },
    ],
  ])('a stale response is refreshed in the background by a handler that %s', async (_, handler) => {
    await expectRefresh(await stalePage(handler));
  });

  it.each(['above', 'below'] as const)(
    'a stale response is refreshed in the background with compression() %s the cache',
    async (where) => {
      const { ask, pass, storedAll, runs } = await stalePage(
        (_req, res) => pipeline(Readable.from(PIECES), res.type('text')),
        { [where]: [compression({ level: 0 })] },
      );
      const unzipped = async () =>
        gunzipSync((await ask('/a', { 'Accept-Encoding': 'gzip' })).body).toString();
      expect(await unzipped()).toBe(BODY);
      await storedAll(1);
      await pass(11_000);
      expect(await unzipped()).toBe(BODY);
      await storedAll(2);
      expect(await unzipped()).toBe(BODY);
      expect(runs()).toBe(2);
    },
  );

  it.each(EXPRESS)(
    'a stale response is refreshed in the background in a router of a sub-app, on %s',
    async (_, makeApp) => {
      const { kit, local, pass } = agingKit(url());
      const stored = eventsOf(kit, 'cache:stored');
      let runs = 0;
      const router = Router();
      const cache = kit.cache({ ttl: '10s', staleWhileRevalidate: '1h', local });
      router.get('/page/:id', cache, (req, res) => void res.send(`${req.params.id} ${++runs}`));
      const inner = makeApp() as Express;
      inner.use('/inner', router);
      const app = makeApp() as Express;
      app.use('/outer', inner);
      const address = `${await serve(app)}/outer/inner/page/7`;
      expect((await send(address)).text).toBe('7 1');
      await until('it is stored', () => stored.length === 1);
      await pass(11_000);
      expect((await send(address)).text).toBe('7 1');
      await until('it is stored again', () => stored.length === 2);
      expect((await send(address)).text).toBe('7 2');
    },
  );

  it.each<[string, (kit: RedisKit) => RequestHandler]>([
    ['kit.session', (kit) => kit.session({ secret: SECRET }) as RequestHandler],
    ['kit.session that rolls', (kit) => kit.session({ secret: SECRET, rolling: true }) as RequestHandler],
    ['express-session', () => expressSession({ secret: SECRET, resave: false, saveUninitialized: true })],
    ['express.json', () => express.json()],
    ['express.urlencoded', () => express.urlencoded()],
    ['express.raw', () => express.raw({ type: () => true })],
  ])('a stale response is refreshed in the background with %s before the cache', async (_, above) => {
    await expectRefresh(
      await stalePage((_req, res) => void res.send(BODY), { above: (kit) => [above(kit)] }),
    );
  });

  it('a refresh uses no quota of a rate limit', async () => {
    const limited = (kit: RedisKit) => kit.rateLimit({ algorithm: 'sliding-window', limit: 5, window: '1h' });
    const made = await stalePage((_req, res) => void res.send(BODY), {
      above: (kit) => [limited(kit) as RequestHandler],
    });
    await expectRefresh(made);
    const { status, headers } = await made.ask();
    expect([status, String(headers.ratelimit)]).toEqual([429, expect.stringContaining('r=0')]);
  });

  it('a refresh has the headers of a client that got the stale response, without conditions and Range', async () => {
    const seen: Request['headers'][] = [];
    const { ask, pass, storedAll } = await stalePage(
      (req, res) => {
        seen.push({ ...req.headers });
        res.send(BODY);
      },
      // Copying all headers reads the cookies.
      { key: { headers: ['Cookie'] } },
    );
    const headers = { 'Accept-Language': 'de', Cookie: 'a=b', Range: 'bytes=0-1', 'If-None-Match': '"x"' };
    await ask('/a', headers);
    await storedAll(1);
    await pass(11_000);
    expect((await ask('/a', headers)).status).toBe(206);
    await storedAll(2);
    expect(seen[1]).toMatchObject({ 'accept-language': 'de', cookie: 'a=b' });
    expect(seen[1]).not.toHaveProperty('range');
    expect(seen[1]?.['if-none-match'], 'its own: that of what is stale').toMatch(/^W\//);
  });

  it('a refresh has the forwarded address of a client behind a trusted proxy, even after its disconnect', async () => {
    const seen: unknown[] = [];
    const { ask, pass, storedAll } = await stalePage(
      (req, res) => {
        seen.push([req.ip, req.ips, req.hostname, req.protocol, req.secure, req.originalUrl, req.query]);
        res.send('body');
      },
      {
        makeApp: () => express().set('trust proxy', 'loopback'),
        above: [
          (req, _res, next) => {
            next();
            if (req.headers['x-hasty'] !== undefined) req.socket.destroy();
          },
        ],
      },
    );
    const headers = {
      'X-Forwarded-For': '192.0.2.7, 127.0.0.1',
      'X-Forwarded-Proto': 'https',
      'X-Forwarded-Host': 'shop.example',
    };
    await ask('/a?b=c', headers);
    await storedAll(1);
    await pass(11_000);
    await ask('/a?b=c', { ...headers, 'X-Hasty': '1' }).catch(() => undefined);
    await storedAll(2);
    expect(seen[0]).toEqual([
      ...['192.0.2.7', ['192.0.2.7', '127.0.0.1'], 'shop.example', 'https', true, '/a?b=c', { b: 'c' }],
    ]);
    expect(seen[1]).toEqual(seen[0]);
  });
});
