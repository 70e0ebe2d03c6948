import connect from 'connect';
import express, { type Express, type RequestHandler } from 'express';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CacheOptions, KitEvents, RedisKit } from '../../src/index.ts';
import { Gate } from '../http/exchange.ts';
import { describeOnBothEngines } from '../support/kits.ts';
import { until } from '../support/until.ts';
import { type Sent, send, serve } from '../support/web.ts';
import { agingKit } from './aging.ts';
import { loadCacheScripts } from './scripts.ts';

const NAMES = ['hit', 'miss', 'stale', 'stored', 'skipped', 'collapsed', 'purged'] as const;
const ALL_EVENTS: readonly (keyof KitEvents)[] = [...NAMES.map((name) => `cache:${name}` as const), 'error'];

/** The events of a kit's caches, as one line each: the event, its subject, and the reason. */
function eventLines(kit: RedisKit): string[] {
  const lines: string[] = [];
  for (const name of ALL_EVENTS) {
    kit.on(name, (event) => {
      const { url, key, reason, feature, error } = event as Record<string, unknown>;
      lines.push(
        [name, url ?? key ?? feature, reason ?? (error as Error | undefined)?.message]
          .filter(Boolean)
          .join(' '),
      );
    });
  }
  return lines;
}

describeOnBothEngines('the events of kit.cache', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function start(
    handler: RequestHandler,
    options: CacheOptions = {},
    makeApp: () => unknown = express,
  ) {
    const { kit, local, pass } = agingKit(url());
    const lines = eventLines(kit);
    let arrived = 0;
    const app = makeApp() as Express;
    if ('set' in app) app.set('env', 'test');
    app.use((_req, _res, next) => {
      arrived++;
      next();
    });
    app.use(kit.cache({ ttl: '10s', local, ...options }));
    app.use(handler);
    const address = await serve(app);
    const ask = (path = '/a', sent: Sent = {}) => send(`${address}${path}`, sent);
    /** Resolves to the next `count` lines. */
    let from = 0;
    const next = async (count: number) => {
      await until(`${count} more are emitted`, () => lines.length >= from + count);
      const since = lines.slice(from);
      from = lines.length;
      return since;
    };
    return { kit, ask, pass, next, arrived: () => arrived };
  }

  const answers: RequestHandler = (_req, res) => void res.end('body');

  it('a miss emits `cache:miss` and `cache:stored` once, and each hit emits `cache:hit` once', async () => {
    const { ask, next } = await start(answers);
    await ask();
    expect(await next(2)).toEqual(['cache:miss /a', 'cache:stored /a']);
    await ask();
    await ask('/a', { headers: { Range: 'bytes=0-1' } });
    await ask('/a', { headers: { 'If-None-Match': '*' } });
    await ask('/a', { method: 'HEAD' });
    expect(await next(4)).toEqual(Array(4).fill('cache:hit /a'));
  });

  it('a HEAD request without a stored response emits `cache:miss`, and a request that bypasses the cache emits nothing', async () => {
    const { ask, next } = await start(answers, { skip: (req) => req.url === '/skipped' });
    await ask('/skipped');
    await ask('/a', { method: 'POST' });
    await ask('/a', { method: 'HEAD' });
    expect(await next(1)).toEqual(['cache:miss /a']);
  });

  it('each follower emits `cache:collapsed`', async () => {
    const gate = new Gate();
    const { ask, next, arrived } = await start(async (_req, res) => {
      await gate.promise;
      res.end('body');
    });
    const first = ask();
    await until('it is being made', () => arrived() === 1);
    const others = Array.from({ length: 5 }, () => ask());
    await until('all are there', () => arrived() === 6);
    gate.open();
    await Promise.all([first, ...others]);
    expect((await next(7)).sort()).toEqual([
      ...Array(5).fill('cache:collapsed /a'),
      ...['cache:miss /a', 'cache:stored /a'],
    ]);
  });

  it('each stale response emits `cache:stale`, and its refresh emits `cache:stored` once', async () => {
    const gate = new Gate();
    let runs = 0;
    const { ask, pass, next } = await start(
      async (_req, res) => {
        if (++runs > 1) await gate.promise;
        res.end('body');
      },
      { staleWhileRevalidate: '1h' },
    );
    await ask();
    await next(2);
    await pass(11_000);
    for (let client = 0; client < 3; client++) await ask();
    await ask('/a', { method: 'HEAD' });
    gate.open();
    expect(await next(5)).toEqual([...Array(4).fill('cache:stale /a'), 'cache:stored /a']);
  });

  it('on Connect a request that refreshes a stale response emits `cache:miss`, and other requests emit `cache:stale`', async () => {
    const gate = new Gate();
    let runs = 0;
    const { ask, pass, next } = await start(
      async (_req, res) => {
        if (++runs > 1) await gate.promise;
        res.end('body');
      },
      { staleWhileRevalidate: '1h' },
      connect,
    );
    await ask();
    await next(2);
    await pass(11_000);
    const making = ask();
    await until('it is refreshed', () => runs === 2);
    await ask();
    gate.open();
    await making;
    expect(await next(3)).toEqual(['cache:miss /a', 'cache:stale /a', 'cache:stored /a']);
  });

  it('a server error emits `cache:miss` and `cache:skipped`, and the fallback emits `cache:stale`', async () => {
    let isBroken = false;
    const { ask, pass, next } = await start(
      (_req, res) => void res.status(isBroken ? 500 : 200).end('body'),
      { staleIfError: '1h' },
    );
    await ask();
    await next(2);
    await pass(11_000);
    isBroken = true;
    expect((await ask()).status).toBe(200);
    expect(await next(3)).toEqual(['cache:miss /a', 'cache:skipped /a status', 'cache:stale /a']);
  });

  it('kit.invalidate() emits `cache:purged` once', async () => {
    const { kit, next } = await start(answers);
    await kit.invalidate({ tags: ['a', 'b'] });
    await kit.invalidate({ all: true, soft: true });
    expect(await next(2)).toEqual(['cache:purged', 'cache:purged']);
  });

  const says = (name: string, value: string): RequestHandler => {
    return (_req, res) => void res.setHeader(name, value).end('body');
  };

  const tooShort: RequestHandler = (_req, res) => {
    res.status(206).setHeader('Content-Range', 'bytes 0-8/9').end('body');
  };

  const noStore: RequestHandler = (req, res) => {
    req.cache.noStore();
    res.end();
  };

  it.each<[string, RequestHandler, CacheOptions?, Sent['headers']?]>([
    ['status', (_req, res) => void res.status(404).end()],
    ['set-cookie', says('Set-Cookie', 'a=b')],
    ['partial', tooShort, {}, { Range: 'bytes=0-8' }],
    ['trailer', says('Trailer', 'X-Sum')],
    ['event-stream', says('Content-Type', 'text/event-stream')],
    ['no-store', says('Cache-Control', 'no-store')],
    ['no-store', noStore],
    ['private', says('Cache-Control', 'private')],
    ['no-cache', says('Cache-Control', 'no-cache')],
    ['vary', says('Vary', '*')],
    ['vary', says('Vary', 'Accept'), { vary: { allow: ['accept-encoding'] } }],
    ['session-read', (req, res) => void res.end(String(req.session))],
    ['authorization', answers, {}, { Authorization: 'Bearer t' }],
    ['no-lifetime', answers, { ttl: () => false }],
    ['too-large', (_req, res) => void res.end('much too long'), { maxBody: 4 }],
    ['incomplete', (_req, res) => void res.setHeader('Content-Length', 9).end('body').socket?.end()],
  ])(
    'a response that is not stored emits `cache:skipped` once: %s',
    async (reason, handler, options, headers = {}) => {
      const { ask, next } = await start(handler, options);
      for (const path of ['/a', '/b']) {
        await ask(path, { headers }).catch(() => undefined);
        expect(await next(2)).toEqual([`cache:miss ${path}`, `cache:skipped ${path} ${reason}`]);
      }
    },
  );

  it('a failed validation emits `cache:skipped` with the reason `validator`', async () => {
    let runs = 0;
    const { ask, pass, next } = await start(
      (_req, res) =>
        void res
          .setHeader('ETag', `"${++runs}"`)
          .status(runs === 2 ? 304 : 200)
          .end(),
      { staleWhileRevalidate: '1h' },
    );
    await ask();
    await next(2);
    await pass(11_000);
    await ask();
    expect(await next(2)).toEqual(['cache:stale /a', 'cache:skipped /a validator']);
  });

  it('a `ttl` function that throws emits `cache:skipped` for each response, and `error` once', async () => {
    const { ask, next } = await start(answers, {
      ttl: () => {
        throw new Error('on purpose');
      },
    });
    await ask('/a');
    await ask('/b');
    expect((await next(5)).sort()).toEqual([
      ...['cache:miss /a', 'cache:miss /b', 'cache:skipped /a error', 'cache:skipped /b error'],
      'error cache on purpose',
    ]);
  });
});

describe('the events of kit.remember', () => {
  it('kit.remember emits the events of the cache with the key of the value', async () => {
    const { kit, pass } = agingKit('memory:');
    const lines = eventLines(kit);
    const gate = new Gate();
    const options = { ttl: '10s', staleIfError: '1h' } as const;
    const first = kit.remember('a', options, async () => {
      await gate.promise;
      return 1;
    });
    const second = kit.remember('a', options, () => 2);
    gate.open();
    await Promise.all([first, second]);
    await kit.remember('a', options, () => 3);
    await kit.remember('none', options, () => undefined);
    await pass(11_000);
    await kit.remember('a', options, () => Promise.reject(new Error('on purpose')));
    expect(lines.sort()).toEqual([
      ...['cache:collapsed a', 'cache:hit a', 'cache:miss a', 'cache:miss a', 'cache:miss none'],
      ...['cache:skipped none undefined', 'cache:stale a', 'cache:stored a', 'error cache on purpose'],
    ]);
  });
});
