import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import compression from 'compression';
import express, { type Express } from 'express';
import express4 from 'express4';
import { beforeAll, expect, it, onTestFinished } from 'vitest';
import type { CacheOptions } from '../../../src/index.ts';
import { redisUrl } from '../../support/context.ts';
import { describeOnBothEngines, eventsOf, kitForTest, testPrefix } from '../../support/kits.ts';
import { withPlainClient } from '../../support/plain-client.ts';
import { passTime, stopTime } from '../../support/time.ts';
import { until } from '../../support/until.ts';
import { send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

const MEBIBYTE = 2 ** 20;
/** Random bytes, which no compression makes smaller. */
const PIECE = randomBytes(65_536);

/** More than the buffers of both sockets take, so that a client that does not read stops the handler. */
const PIECES = 256;
const BYTES = PIECES * PIECE.length;

function* pieces(count = PIECES): Generator<Buffer> {
  for (let index = 0; index < count; index++) yield PIECE;
}

type Send = (res: ServerResponse, count?: number) => unknown;

/** Ways in which handlers send a large body, each of which waits until the client has read some of it. */
const WAYS: Readonly<Record<string, Send>> = {
  'pipe()': (res, count) => Readable.from(pieces(count), { objectMode: false }).pipe(res),
  'pipe() after a first write': (res, count = PIECES) => {
    const source = Readable.from(pieces(count - 8), { objectMode: false });
    for (let index = 0; index < 8; index++) res.write(PIECE);
    source.pipe(res);
  },
  'pipeline()': (res, count) =>
    pipeline(Readable.from(pieces(count)), res as Writable).catch(() => undefined),
  "once(res, 'drain')": async (res, count) => {
    for (const piece of pieces(count)) if (!res.write(piece)) await once(res, 'drain');
    res.end();
  },
};

/** A client that sends a request and does not read the response. */
async function slowClient(address: string): Promise<Socket> {
  const { hostname, port } = new URL(address);
  const socket = connect(Number(port), hostname).pause();
  onTestFinished(() => void socket.destroy());
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(`GET /large HTTP/1.1\r\nHost: ${hostname}:${port}\r\n\r\n`);
  return socket;
}

/** Longer than any test lasts. */
const singleFlight = { lease: '1h', wait: '1h' } as const;

describeOnBothEngines('followers of a slow reader', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function start(
    sendBody: Send,
    options: Partial<CacheOptions> = {},
    makeApp: () => Express = express,
    above: RequestListener[] = [],
  ) {
    const kit = kitForTest({ url: url() });
    let runs = 0;
    const app = makeApp();
    for (const middleware of above) app.use(middleware);
    const cache = kit.cache({ ttl: '1h', maxBody: 2 * BYTES, singleFlight, local: false, ...options });
    app.get('/large', cache, (_req: IncomingMessage, res: ServerResponse) => {
      runs++;
      void sendBody(res);
    });
    return { kit, address: await serve(app), runs: () => runs };
  }

  const cases = [
    ...Object.keys(WAYS).map((name) => [name, 'Express 5', express] as const),
    ['pipe()', 'Express 4', express4 as unknown as () => Express] as const,
  ];

  it.for(cases)(
    'a body that %s sends on %s reaches the followers while the first client reads nothing',
    async ([name, , makeApp]) => {
      const { address, runs } = await start(WAYS[name] as Send, {}, makeApp);
      await slowClient(address);
      await until('the handler runs', () => runs() === 1);
      const answers = await Promise.all(Array.from({ length: 2 }, () => send(`${address}/large`)));
      expect(answers.map(({ status, body }) => [status, body.length])).toEqual(Array(2).fill([200, BYTES]));
      expect(runs()).toBe(1);
    },
  );

  it('a body that compression() before the cache encodes reaches the followers of a slow reader', async () => {
    const { address, runs } = await start(WAYS['pipe()'] as Send, {}, express, [
      compression({ threshold: 0 }) as RequestListener,
    ]);
    await slowClient(address);
    await until('the handler runs', () => runs() === 1);
    expect((await send(`${address}/large`)).body.length).toBe(BYTES);
    expect(runs()).toBe(1);
  });

  it('a slow first client gets the whole body when it reads again', async () => {
    const { kit, address, runs } = await start(WAYS["once(res, 'drain')"] as Send);
    const stored = eventsOf(kit, 'cache:stored');
    const socket = await slowClient(address);
    await until('the handler runs', () => runs() === 1);
    await send(`${address}/large`);
    await until('it is stored', () => stored.length === 1);
    let bytes = 0;
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
    });
    socket.resume();
    await until('it has all', () => bytes > BYTES);
    expect(runs()).toBe(1);
  });

  it('a handler with a body over maxBody waits for its slow client, and followers run their own handlers', async () => {
    let written = 0;
    const { kit, address, runs } = await start(
      async (res) => {
        for (const piece of pieces()) {
          written += piece.length;
          if (!res.write(piece)) await once(res, 'drain');
        }
        res.end();
      },
      { maxBody: MEBIBYTE },
    );
    const skipped = eventsOf(kit, 'cache:skipped');
    await slowClient(address);
    await until('it is too large', () => skipped.length === 1);
    const before = written;
    expect(before).toBeLessThan(BYTES);
    expect((await send(`${address}/large`)).body.length).toBe(BYTES);
    expect(runs()).toBe(2);
    expect(written - before, 'the first handler still waits').toBeLessThan(2 * BYTES);
  });

  it('a handler without followers waits for its slow client', async () => {
    let written = 0;
    let drains = 0;
    const { address, runs } = await start(async (res) => {
      for (const piece of pieces()) {
        written += piece.length;
        if (!res.write(piece)) {
          drains++;
          await once(res, 'drain');
        }
      }
      res.end();
    });
    await slowClient(address);
    await until('the handler waits', () => drains > 0);
    expect([runs(), written < BYTES]).toEqual([1, true]);
    const follower = await send(`${address}/large`);
    expect([follower.body.length, runs()]).toEqual([BYTES, 1]);
  });

  it('a handler waits for its slow client with `singleFlight: false`', async () => {
    let written = 0;
    const { address, runs } = await start(
      async (res) => {
        for (const piece of pieces()) {
          written += piece.length;
          if (!res.write(piece)) await once(res, 'drain');
        }
        res.end();
      },
      { singleFlight: false },
    );
    await slowClient(address);
    await until('the handler runs', () => runs() === 1);
    expect((await send(`${address}/large`)).body.length).toBe(BYTES);
    expect(written).toBeLessThan(2 * BYTES);
  });
});

it('followers in another process do not wait for the slow first client', async () => {
  await loadCacheScripts(redisUrl());
  const LEASE_MS = 30_000;
  const prefix = testPrefix();
  const kits = [1, 2].map(() => kitForTest({ url: redisUrl(), prefix }));
  stopTime();
  let runs = 0;
  const addresses = await Promise.all(
    kits.map((kit) => {
      const app = express();
      const cache = kit.cache({
        ttl: '1h',
        maxBody: 2 * BYTES,
        singleFlight: { lease: LEASE_MS, wait: '1h' },
        key: { host: false },
      });
      app.get('/large', cache, (_req, res) => {
        runs++;
        WAYS['pipe()']?.(res);
      });
      return serve(app);
    }),
  );
  await slowClient(addresses[0] ?? '');
  await until('the handler runs', () => runs === 1);
  const follower = send(`${addresses[1]}/large`);
  await until('Redis knows of the follower', () =>
    withPlainClient(redisUrl(), async (client) => {
      const [fill = ''] = await client.keys(`${prefix}:cache:*:fill`);
      return (await client.get(fill))?.startsWith('1:L:1:') === true;
    }),
  );
  // The process of the first client hears of the follower when it renews its lease.
  await passTime(LEASE_MS / 2);
  expect((await follower).body.length).toBe(BYTES);
  expect(runs).toBe(1);
});
