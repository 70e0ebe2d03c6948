import express, { type RequestHandler } from 'express';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { cacheRead } from '../../src/cache/store/operations/read.ts';
import type { CacheOptions, RateLimitOptions, RedisKit } from '../../src/index.ts';
import { loadCacheScripts } from '../cache/scripts.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { type Proxy as RedisProxy, startProxy } from '../support/proxy.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { type Sent, send, serve } from '../support/web.ts';

let server: RedisServer;
let proxy: RedisProxy;

interface SiteOptions {
  readonly limit?: Partial<RateLimitOptions>;
  readonly cache?: Partial<CacheOptions>;
  readonly between?: (kit: RedisKit) => readonly RequestHandler[];
  readonly handler?: RequestHandler;
  /** Whether the middleware is mounted without a pipeline. */
  readonly isSeparate?: boolean;
}

/** A limiter and a cache in one pipeline, on a connection that records its commands. Local copies are off. */
async function pipelineSite(options: SiteOptions = {}) {
  const { limit, cache, between = () => [], handler, isSeparate = false } = options;
  const kit = kitForTest({ url: proxy.url });
  const stored = eventsOf(kit, 'cache:stored');
  const app = express();
  const policy = { algorithm: 'sliding-window', limit: 100, window: '1h', ...limit } as RateLimitOptions;
  const cached = kit.cache({ ttl: '1h', local: false, key: { host: false }, ...cache });
  let runs = 0;
  const middleware = [kit.rateLimit(policy), ...between(kit), cached];
  app.use(...(isSeparate ? middleware : [kit.pipeline(...middleware)]), (req, res, next) => {
    runs++;
    if (handler === undefined) res.send(`body of ${req.url}`);
    else handler(req, res, next);
  });
  const address = await serve(app);
  await kit.ready();
  await kitListens(kit);
  const ask = (path = '/a', sent: Sent = {}) => send(`${address}${path}`, sent);
  return {
    kit,
    ask,
    runs: () => runs,
    hits: eventsOf(kit, 'cache:hit'),
    /** Stores the response and learns the versions of its names. */
    async warm(path?: string, sent?: Sent) {
      const before = stored.length;
      await ask(path, sent);
      await until('it is stored', () => stored.length > before);
      await ask(path, sent);
    },
    /** The scripts that one request sends, by the pieces in which they arrive: `limit` or a name of the cache. */
    async scriptsOf(work: () => Promise<unknown>): Promise<readonly string[]> {
      const first = proxy.scripts.length;
      await work();
      return proxy.scripts.slice(first).map((digests) => digests.map(nameOf).join('+'));
    },
  };
}

/** Resolves when the kit receives purges: until then it reads the versions of an entry with each hit. */
async function kitListens({ prefix }: RedisKit): Promise<void> {
  await withPlainClient(server.url, (client) =>
    until('the kit listens', async () => (await client.pubSubChannels(`${prefix}:cache:*`)).length > 0),
  );
}

/** Distinguishes only the read of the cache from other scripts, since each limiter may have a script of its own. */
function nameOf(digest: string): string {
  return digest === cacheRead.sha ? 'read' : 'other';
}

describeWithServers('the commands of a pipeline', () => {
  beforeEach(async () => {
    server = await startRedis();
    onTestFinished(() => server.stop());
    proxy = await startProxy(server);
    await loadCacheScripts(server.url);
  });

  it('the decision of a limiter and the read of a stored response leave in one write', async () => {
    const { ask, warm, scriptsOf, runs, hits } = await pipelineSite();
    await warm();
    expect(await scriptsOf(() => ask())).toEqual(['other+read']);
    expect([runs(), hits.length]).toEqual([1, 2]);
  });

  it('separate middleware sends the same commands one after the other', async () => {
    const { ask, warm, scriptsOf } = await pipelineSite({ isSeparate: true });
    await warm();
    expect(await scriptsOf(() => ask())).toEqual(['other', 'read']);
  });

  it('a miss reads once more to take the lease, and the handler runs once', async () => {
    const { ask, warm, scriptsOf, runs } = await pipelineSite();
    await warm();
    const scripts = await scriptsOf(() => ask('/b'));
    expect(scripts.slice(0, 2)).toEqual(['other+read', 'read']);
    expect(runs()).toBe(2);
  });

  it('a request that the limiter refuses by what this process knows sends nothing', async () => {
    const { ask, warm, scriptsOf } = await pipelineSite({ limit: { limit: 3, denyCache: { maxAge: '1h' } } });
    await warm();
    await ask();
    expect((await ask()).status).toBe(429);
    expect(await scriptsOf(async () => expect((await ask()).status).toBe(429))).toEqual([]);
    // Requests that arrive together are refused together, at the end of the turn.
    const many = () => Promise.all(Array.from({ length: 60 }, () => ask()));
    expect(await scriptsOf(many)).toEqual([]);
  });

  it('a request that Redis refuses has read ahead, and leaves nothing behind', async () => {
    const { ask, warm, scriptsOf, runs } = await pipelineSite({ limit: { limit: 2 } });
    await warm();
    const keys = () => withPlainClient(server.url, (client) => client.keys('*'));
    const before = await keys();
    expect(await scriptsOf(async () => expect((await ask('/b')).status).toBe(429))).toEqual(['other+read']);
    expect((await keys()).sort()).toEqual(before.sort());
    expect(runs()).toBe(1);
  });

  it.each<[string, Partial<CacheOptions>]>([
    ['a key function', { key: (req) => req.url }],
    ['a session key', { key: { session: () => 'all' } }],
    ['a skip function', { skip: () => false }],
  ])('with %s the cache reads on its turn, since the app decides then', async (_what, cache) => {
    const { ask, warm, scriptsOf, hits } = await pipelineSite({ cache });
    await warm();
    expect(await scriptsOf(() => ask())).toEqual(['other', 'read']);
    expect(hits).toHaveLength(2);
  });

  it('the cache reads on its turn behind a middleware that may wait for other requests', async () => {
    const lock = (kit: RedisKit) => [kit.lock({ key: () => 'one' }) as RequestHandler];
    const { ask, warm, scriptsOf } = await pipelineSite({ between: lock });
    await warm();
    const scripts = await scriptsOf(() => ask());
    expect(scripts[0]).toBe('other');
    expect(scripts.filter((name) => name.includes('read'))).toHaveLength(1);
  });

  it('a read is not used if the request has another key when the turn of the cache comes', async () => {
    let language = 'en';
    const change = async (req: Parameters<RequestHandler>[0]) => {
      await new Promise(setImmediate);
      req.headers['accept-language'] = language;
      return 'all';
    };
    const handler: RequestHandler = (req, res) =>
      void res.send(`in ${String(req.headers['accept-language'])}`);
    const options = { limit: { key: change }, cache: { key: { headers: ['accept-language'] } }, handler };
    const { ask, warm, scriptsOf } = await pipelineSite(options as SiteOptions);
    await warm();
    language = 'de';
    await warm();
    language = 'en';
    const scripts = await scriptsOf(async () =>
      expect((await ask('/a', { headers: { 'Accept-Language': 'de' } })).text).toBe('in en'),
    );
    expect(scripts.join('+').split('+').sort()).toEqual(['other', 'read', 'read']);
  });

  it('a response that was purged after the read was sent does not answer', async () => {
    let purge: (() => Promise<void>) | undefined;
    const key = async () => {
      await new Promise(setImmediate);
      await purge?.();
      return 'all';
    };
    const { kit, ask, warm, runs } = await pipelineSite({ limit: { key } as Partial<RateLimitOptions> });
    await warm();
    purge = () => kit.invalidate({ url: '/a' });
    await ask();
    expect(runs()).toBe(2);
  });

  it('a held copy answers, and the request reads nothing', async () => {
    const { ask, warm, scriptsOf } = await pipelineSite({ cache: { local: {} } });
    await warm();
    expect(await scriptsOf(() => ask())).toEqual(['other']);
  });

  it('while Redis is down, the limiter and the cache follow their failure policies', async () => {
    const { ask, warm, runs } = await pipelineSite();
    await warm();
    proxy.sever();
    const answer = await ask();
    expect([answer.status, answer.text, runs()]).toEqual([200, 'body of /a', 2]);
    proxy.mend();
    await until('it is a hit again', async () => (await ask()).headers.age !== undefined);
  });
});
