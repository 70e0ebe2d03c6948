import express, { type Application, type RequestHandler } from 'express';
import fc from 'fast-check';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import type { RedisKit } from '../../src/index.ts';
import { loadCacheScripts } from '../cache/scripts.ts';
import { describeWithServers } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { type Proxy as RedisProxy, startProxy } from '../support/proxy.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { type Answer, send, serve } from '../support/web.ts';

const MIDDLEWARE = [
  'limiter',
  'strict limiter',
  'session',
  'cache',
  'lock',
  'own',
  'slow',
  'refusing',
  'failing',
] as const;
type Name = (typeof MIDDLEWARE)[number];

interface Visit {
  readonly path: string;
  readonly method: 'GET' | 'HEAD' | 'POST';
  /** Whether the client sends its session cookie. */
  readonly isKnown: boolean;
  readonly redis: 'up' | 'slow' | 'down';
}

/** A known refusal applies as long as the window, so that no answer depends on how fast the machine is. */
const WINDOW = { algorithm: 'sliding-window', window: '1h', denyCache: { maxAge: '1h' } } as const;

/** The middleware of a name. Each notes its turn, so that the turns of two apps can be compared. */
function middlewareOf(name: Name, kit: RedisKit): RequestHandler {
  const own: Readonly<
    Record<Exclude<Name, 'limiter' | 'strict limiter' | 'session' | 'cache' | 'lock'>, RequestHandler>
  > = {
    own: (_req, _res, next) => next(),
    slow: (_req, _res, next) => void setImmediate(next),
    refusing: (req, res, next) => (req.url === '/refused' ? res.status(403).end('refused') : next()),
    failing: (req, _res, next) => next(req.url === '/failed' ? new Error('failed') : undefined),
  };
  if (name === 'limiter') return kit.rateLimit({ ...WINDOW, limit: 20, name: 'wide', key: () => 'all' });
  if (name === 'strict limiter')
    return kit.rateLimit({ ...WINDOW, limit: 4, name: 'strict', key: () => 'all' });
  if (name === 'session') return kit.session({ secret: 'a-long-enough-secret' });
  if (name === 'cache') return kit.cache({ ttl: '1h', local: false, key: { host: false } });
  if (name === 'lock') return kit.lock({ key: () => 'one' });
  return own[name];
}

/** An app with the middleware in this order, and a handler that uses what they give to it. */
function appOf(kit: RedisKit, order: readonly Name[], isPipeline: boolean) {
  const app: Application = express().set('env', 'test');
  const turns: string[] = [];
  const middleware = order.map((name) => {
    const run = middlewareOf(name, kit);
    // A middleware of the kit in a wrapper would not be known to the pipeline.
    return name === 'own' || name === 'slow' ? noting(name, run, turns) : run;
  });
  app.use(...(isPipeline ? [kit.pipeline(...middleware)] : middleware));
  app.use((req, res) => {
    turns.push('handler');
    const session = order.includes('cache') ? undefined : req.session;
    const visits = session && Number(Reflect.get(session, 'visits') ?? 0);
    if (req.method === 'POST' && session !== undefined)
      Object.assign(session, { visits: Number(visits) + 1 });
    res.json({ url: req.url, visits, remaining: req.rateLimit?.remaining });
  });
  app.use(((error: Error, _req, res, _next) => {
    turns.push(error.message);
    res.status(500).end();
  }) as express.ErrorRequestHandler);
  return { app, turns };
}

function noting(name: string, middleware: RequestHandler, turns: string[]): RequestHandler {
  return (req, res, next) => {
    turns.push(name);
    return middleware(req, res, next);
  };
}

/** What a client can see of a response, without the times and random values in it. */
function visible({ status, text, headers }: Answer): unknown {
  const { age, 'retry-after': wait, 'set-cookie': cookies, ...others } = headers;
  const steady = Object.entries(others)
    .filter(([name]) => name !== 'date')
    .map(([name, value]) => [name, String(value).replace(/\b(t|ttl)=\d+/g, '$1=')]);
  return {
    status,
    text,
    hasAge: age !== undefined,
    hasWait: wait !== undefined,
    cookies: cookies?.length ?? 0,
    steady,
  };
}

let server: RedisServer;

describeWithServers('kit.pipeline in random apps', () => {
  beforeEach(async () => {
    server = await startRedis();
    onTestFinished(() => server.stop());
    await loadCacheScripts(server.url);
  });

  it('an app with a pipeline answers, counts and stores like one with separate middleware, also when requests are refused and while Redis is slow or down', async () => {
    const orders = fc.shuffledSubarray([...MIDDLEWARE], { minLength: 2 });
    const visits = fc.array(
      fc.record<Visit>({
        path: fc.constantFrom('/a', '/b', '/refused', '/failed'),
        method: fc.constantFrom('GET', 'GET', 'HEAD', 'POST'),
        isKnown: fc.boolean(),
        redis: fc.constantFrom('up', 'up', 'up', 'up', 'slow', 'down'),
      }),
      { minLength: 3, maxLength: 8 },
    );
    await fc.assert(fc.asyncProperty(orders, visits, compare), { numRuns: 20 });
  });
});

async function compare(order: readonly Name[], visits: readonly Visit[]): Promise<void> {
  const [separate, pipeline] = [await startSite(order, false), await startSite(order, true)];
  for (const visit of visits) {
    const expected = await separate.visit(visit);
    expect(await pipeline.visit(visit), JSON.stringify({ order, visit })).toEqual(expected);
  }
  expect(await pipeline.keys(), order.join()).toEqual(await separate.keys());
}

async function startSite(order: readonly Name[], isPipeline: boolean) {
  const proxy: RedisProxy = await startProxy(server);
  // No command may be late on a machine that is busy.
  const kit = kitForTest({ url: proxy.url });
  const { app, turns } = appOf(kit, order, isPipeline);
  const address = await serve(app);
  await kit.ready();
  let cookie: string | undefined;

  /** The sequence of the last purge. */
  function sequence(): Promise<string | null> {
    return withPlainClient(server.url, async (client) => {
      const [key = ''] = await client.keys(`${kit.prefix}:*}:sequence`);
      return client.get(key);
    });
  }

  return {
    async visit({ path, method, isKnown, redis }: Visit): Promise<unknown> {
      proxy.delayReplies(redis === 'slow' ? 20 : 0);
      const before = await sequence();
      if (redis === 'down') await lost(kit, () => proxy.sever());
      const first = turns.length;
      const headers: Record<string, string> = isKnown && cookie !== undefined ? { Cookie: cookie } : {};
      const answer = await send(`${address}${path}`, { method, headers });
      cookie = answer.headers['set-cookie']?.[0]?.split(';')[0] ?? cookie;
      if (redis === 'down') {
        proxy.mend();
        await until('the kit is connected', () =>
          kit.ready().then(
            () => true,
            () => false,
          ),
        );
        const isUnsafe = method === 'POST' && answer.status < 400;
        if (isUnsafe && order.includes('cache')) {
          await until('the failed purge is repeated', async () => (await sequence()) !== before);
        }
      }
      return [visible(answer), turns.slice(first)];
    },
    /** The kinds of keys that exist once nothing is under way; those of locks and fills are short-lived. */
    async keys(): Promise<readonly string[]> {
      proxy.delayReplies(0);
      return withPlainClient(server.url, async (client) => {
        const keys = await client.keys(`${kit.prefix}:*`);
        const kinds = keys.map((key) => key.replaceAll(kit.prefix, '').replace(/\{[\w*-]{40,}\}/, '{id}'));
        return kinds.filter((kind) => !/:fill$|:lock:|calls/.test(kind)).sort();
      });
    },
  };
}

/** Cuts the connection, and resolves when the kit has noticed, so that the next request meets the same outage in each app. */
async function lost(kit: RedisKit, cut: () => void): Promise<void> {
  let isDown = false;
  const stop = kit.on('connection:down', () => {
    isDown = true;
  });
  cut();
  await until('the kit is disconnected', () => isDown);
  stop();
}
