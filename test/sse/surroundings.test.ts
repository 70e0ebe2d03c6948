import { once } from 'node:events';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import compression from 'compression';
import connect from 'connect';
import express, { type Request, type Response } from 'express';
import express4 from 'express4';
import helmet from 'helmet';
import morgan from 'morgan';
import onHeaders from 'on-headers';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Middleware, RedisKit } from '../../src/index.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { compression17 } from '../support/older-releases.ts';
import { until } from '../support/until.ts';
import { serve } from '../support/web.ts';
import { openEvents } from './events.ts';

type Handler = (req: IncomingMessage, res: ServerResponse, next: (error?: unknown) => void) => void;

function useAll<App extends { use(handler: never): unknown }>(app: App, middleware: readonly Handler[]): App {
  for (const each of middleware) app.use(each as never);
  return app;
}

const APPS: Readonly<Record<string, (middleware: readonly Handler[]) => RequestListener>> = {
  'Express 5': (middleware) => useAll(express(), middleware),
  'Express 4': (middleware) => useAll(express4(), middleware),
  Connect: (middleware) => useAll(connect(), middleware),
  'node:http': (middleware) => (req, res) => {
    const run = (index: number): void => middleware[index]?.(req, res, () => run(index + 1));
    run(0);
  },
};

/** Compresses every response, whatever its headers say. */
const COMPRESS_ALL: Readonly<Record<string, readonly Handler[]>> = Object.fromEntries(
  Object.entries({ 'compression 1.8': compression, 'compression 1.7': compression17 }).map(
    ([name, compress]) => [
      name,
      [
        compress({ filter: () => true, threshold: 0 }) as unknown as Handler,
        // compression() leaves responses with `no-transform` alone.
        (_req: IncomingMessage, res: ServerResponse, next: () => void) => {
          onHeaders(res, () => res.setHeader('Cache-Control', 'no-cache'));
          next();
        },
      ],
    ],
  ),
);

/** Publishes messages one after the other: each must arrive before the next one is published. */
async function expectNoStall(kit: RedisKit, url: string, headers = {}) {
  const reader = await openEvents(url, headers);
  for (let n = 1; n <= 5; n++) {
    await kit.publish('news', { n });
    await reader.count(n);
  }
  expect(reader.data).toEqual([1, 2, 3, 4, 5].map((n) => ({ n })));
  return reader;
}

describe.each(Object.entries(APPS))('A stream under %s', (_name, appOf) => {
  it('messages arrive at once below helmet, morgan and a session', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const lines: string[] = [];
    const url = await serve(
      appOf([
        morgan('tiny', { stream: { write: (line) => void lines.push(line) } }) as Handler,
        helmet() as Handler,
        kit.session({ secret: 'a secret of the tests', saveUninitialized: true }),
        kit.sse({ channels: () => 'news' }),
      ]),
    );
    const reader = await expectNoStall(kit, url);
    expect(reader.headers).toMatchObject({
      'set-cookie': [expect.stringContaining('HttpOnly')],
      'x-content-type-options': 'nosniff',
    });
    reader.close();
    await until('the request is logged', () => lines.length === 1);
    await kit.close();
  });

  it.each(Object.entries(COMPRESS_ALL))('messages arrive at once through %s', async (_, compress) => {
    const kit = kitForTest({ url: 'memory:' });
    const url = await serve(appOf([...compress, kit.sse({ channels: () => 'news' })]));
    const reader = await expectNoStall(kit, url, { 'accept-encoding': 'gzip' });
    expect(reader.headers['content-encoding']).toBe('gzip');
    await kit.close();
    expect((await reader.ended()).isCut).toBe(false);
  });

  it('compression with its defaults leaves a stream alone', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const url = await serve(appOf([compression() as Handler, kit.sse({ channels: () => 'news' })]));
    const reader = await expectNoStall(kit, url, { 'accept-encoding': 'gzip' });
    expect(reader.headers['content-encoding']).toBeUndefined();
  });
});

describe('A stream and its session', () => {
  it.each(['app.use()', 'kit.pipeline()'])(
    'a changed session is saved before the head of a stream under %s',
    async (way) => {
      const kit = kitForTest({ url: 'memory:' });
      const session = kit.session({ secret: 'a secret of the tests' });
      const login = (req: Request, _res: Response, next: () => void) => {
        req.session.userId = 'ann';
        next();
      };
      const sse = kit.sse({ channels: (req) => `user:${req.session.userId}` });
      const app = express()
        .use(session)
        .get('/session', (req, res) => void res.json(req.session.userId ?? null))
        .use(...(way === 'app.use()' ? [login, sse] : [kit.pipeline(login, sse)]));
      const url = await serve(app);
      const reader = await openEvents(url);
      const cookie = String(reader.headers['set-cookie']?.[0]?.split(';')[0]);
      expect(await (await fetch(`${url}/session`, { headers: { cookie } })).json()).toBe('ann');
      await kit.publish('user:ann', 'hello');
      expect((await reader.count(1)).data).toEqual(['hello']);
    },
  );
});

describe('A stream below kit.cache', () => {
  it('concurrent streams of one URL are neither stored nor held back', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const skipped = eventsOf(kit, 'cache:skipped');
    const app = express().use(kit.cache({ ttl: '1h' }), kit.sse({ channels: () => 'news' }));
    const url = await serve(app);
    const readers = await Promise.all([1, 2, 3].map(() => openEvents(url)));
    for (const n of [1, 2]) {
      await kit.publish('news', n);
      for (const reader of readers) expect((await reader.count(n)).data.at(-1)).toBe(n);
    }
    expect(skipped.map(({ reason }) => reason)).toEqual(readers.map(() => 'event-stream'));
  });
});

describe('A stream under HTTP/2', () => {
  it('messages arrive at once, and the stream ends with its client and with the kit', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const sse: Middleware = kit.sse({ channels: () => 'news' });
    const server = createHttp2Server((req, res) => {
      sse(req as unknown as IncomingMessage, res as unknown as ServerResponse, () => res.end('next'));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const session = connectHttp2(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    onTestFinished(() => {
      session.destroy();
      server.close();
    });
    const open = async () => {
      const stream = session.request({ ':path': '/' }).setEncoding('utf8');
      let text = '';
      stream.on('data', (chunk: string) => {
        text += chunk;
      });
      await once(stream, 'response');
      return { stream, text: () => text };
    };
    const [left, stays] = [await open(), await open()];
    await kit.publish('news', 1);
    await until('both have it', () => [left, stays].every(({ text }) => text() === ':\n\ndata: 1\n\n'));
    left.stream.close();
    await once(left.stream, 'close');
    await kit.publish('news', 2);
    await until('the other one has it', () => stays.text().endsWith('data: 2\n\n'));
    const ended = once(stays.stream, 'end');
    await kit.close();
    await ended;
  });
});
