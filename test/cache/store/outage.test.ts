import express, { type RequestHandler } from 'express';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Emitter } from '../../../src/base/emitter.ts';
import type { KitEvents } from '../../../src/base/events.ts';
import { Keys } from '../../../src/base/keys.ts';
import { silentLogger } from '../../../src/base/logger.ts';
import { Reporter } from '../../../src/base/reporter.ts';
import { CacheMemory, Caches } from '../../../src/cache/caches.ts';
import { RememberedValues } from '../../../src/cache/values/remember.ts';
import { Deadline, RequestDeadlines } from '../../../src/engine/deadline.ts';
import { memoryEngine } from '../../../src/engine/memory-engine.ts';
import { MemoryKeyspace } from '../../../src/engine/memory-keyspace.ts';
import type { Engine } from '../../../src/engine/port.ts';
import { type CacheOptions, ConnectionError, type RedisKit, StoreError } from '../../../src/index.ts';
import { Gate } from '../../http/exchange.ts';
import { TestClock } from '../../support/both-engines.ts';
import { describeWithServers } from '../../support/context.ts';
import { eventsOf, kitForTest } from '../../support/kits.ts';
import { startProxy } from '../../support/proxy.ts';
import { type RedisServer, startRedis } from '../../support/servers.ts';
import { stopwatch } from '../../support/stopwatch.ts';
import { until } from '../../support/until.ts';
import { type Sent, send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

const COMMAND_TIMEOUT_MS = 500;

/** Many times the deadline, since a busy machine takes longer without waiting for Redis. */
const SOON_MS = 20 * COMMAND_TIMEOUT_MS;

type Fate = 'frozen' | 'killed' | 'empty';
const FATES: readonly Fate[] = ['frozen', 'killed', 'empty'];

async function startServer(): Promise<RedisServer> {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  await loadCacheScripts(server.url);
  return server;
}

async function fall(server: RedisServer, fate: Fate): Promise<void> {
  if (fate === 'frozen') server.freeze();
  else if (fate === 'killed') await server.kill();
  else await server.restart();
}

async function rise(server: RedisServer, fate: Fate): Promise<void> {
  if (fate === 'frozen') server.thaw();
  else if (fate === 'killed') await server.restart();
}

/** A kit and an app with one page, like those of another process. */
async function startProcess(
  server: Pick<RedisServer, 'url'>,
  handler: RequestHandler,
  options: Partial<CacheOptions> = {},
) {
  const kit = kitForTest({ url: server.url, prefix: 't-outage', commandTimeout: COMMAND_TIMEOUT_MS });
  await kit.ready();
  const app = express().set('env', 'test');
  let arrived = 0;
  app.use((_req, _res, next) => {
    arrived++;
    next();
  });
  app.use(kit.cache({ ttl: '1h', key: { host: false }, ...options }), handler);
  const address = await serve(app);
  return { kit, arrived: () => arrived, ask: (path = '/a', sent?: Sent) => send(`${address}${path}`, sent) };
}

async function soon<Result>(work: Promise<Result>): Promise<Result> {
  const elapsedMs = stopwatch();
  const result = await work;
  expect(elapsedMs()).toBeLessThan(SOON_MS);
  return result;
}

async function hitsAgain(kit: RedisKit, ask: () => Promise<unknown>): Promise<void> {
  const hits = eventsOf(kit, 'cache:hit');
  await until('it is answered from what is stored', async () => {
    await ask();
    return hits.length > 0;
  });
}

it('the commands that one call of kit.remember waits for share one deadline', async () => {
  const reporter = new Reporter(new Emitter<KitEvents>(silentLogger), silentLogger);
  const memory = new MemoryKeyspace(new TestClock());
  const keys = new Keys('t-deadline');
  const deadlines: unknown[] = [];
  const engine: Engine = {
    ...memoryEngine(memory, new TestClock()),
    run: async (_operation, _keys, _args, deadline) => {
      deadlines.push(deadline);
      throw new ConnectionError('down on purpose');
    },
  };
  const env = { engine, keys, reporter, now: () => 0 };
  const { values } = new Caches(env, new CacheMemory(memory, keys.cacheChannel()));
  const remembered = new RememberedValues({
    ...{ keys, reporter, values, policies: new Map(), closing: new AbortController().signal },
    deadlines: new RequestDeadlines(60_000),
  });
  expect(await remembered.remember('k', '1h', () => 'loaded')).toBe('loaded');
  expect(deadlines).toEqual([expect.any(Deadline), expect.any(Deadline)]);
  expect(deadlines[0]).toBe(deadlines[1]);
});

describeWithServers('kit.cache and kit.remember while Redis is down', () => {
  describe.each(FATES)('(%s)', (fate) => {
    it.each([false, undefined] as const)(
      'a handler runs within the deadline during an outage, and hits follow after it (local: %j)',
      async (local) => {
        const server = await startServer();
        let runs = 0;
        const handler: RequestHandler = (_req, res) => void res.send(`run ${++runs}`);
        const { kit, ask } = await startProcess(server, handler, { local });
        expect((await ask()).text).toBe('run 1');
        await fall(server, fate);
        for (let round = 0; round < 3; round++) {
          const answers = await soon(Promise.all(Array.from({ length: 10 }, () => ask(`/${round}`))));
          expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(200));
        }
        await rise(server, fate);
        await hitsAgain(kit, () => ask());
      },
    );

    it('a loader runs during an outage, and its value is cached again after the outage', async () => {
      const server = await startServer();
      const { kit } = await startProcess(server, () => undefined);
      let loads = 0;
      const remember = () => kit.remember('key', { ttl: '1h', local: false }, () => ++loads);
      expect(await remember()).toBe(1);
      await fall(server, fate);
      const values = await soon(Promise.all(Array.from({ length: 10 }, remember)));
      expect(new Set(values), 'all of one load').toHaveProperty('size', 1);
      await rise(server, fate);
      await hitsAgain(kit, remember);
    });
  });

  it.each(['frozen', 'killed'] as const)(
    'an invalidation during an outage rejects, and the error shows whether the purge may have run (%s)',
    async (fate) => {
      const server = await startServer();
      const { kit } = await startProcess(server, () => undefined);
      const purged = eventsOf(kit, 'cache:purged');
      await fall(server, fate);
      await expect(soon(kit.invalidate({ tags: 'a' }))).rejects.toThrow(
        fate === 'frozen' ? StoreError : ConnectionError,
      );
      expect(purged).toEqual([]);
      await rise(server, fate);
      await until('the outcome is known', () =>
        kit.invalidate({ tags: 'a' }).then(
          () => true,
          () => false,
        ),
      );
      expect(purged).toHaveLength(1);
    },
  );

  it('a response is invalidated once Redis is back if its unsafe request came during the outage', async () => {
    const server = await startServer();
    const proxy = await startProxy(server);
    let version = 1;
    const { kit, ask } = await startProcess(proxy, (req, res) => {
      if (req.method === 'PUT') version++;
      res.send(`version ${version}`);
    });
    const hits = eventsOf(kit, 'cache:hit');
    const isHit = async (text: string) => {
      const before = hits.length;
      return (await ask()).text === text && hits.length > before;
    };
    await until('the first version is stored', () => isHit('version 1'));
    proxy.sever();
    expect((await ask('/a', { method: 'PUT' })).status).toBe(200);
    proxy.mend();
    await until('the second version is stored', () => isHit('version 2'));
  });

  it.each(['frozen', 'killed'] as const)(
    'all followers get the response of their leader if an outage begins while the handler runs (%s)',
    async (fate) => {
      const server = await startServer();
      const gate = new Gate();
      let runs = 0;
      const { ask, arrived } = await startProcess(server, async (_req, res) => {
        runs++;
        await gate.promise;
        res.send(`answer ${runs}`);
      });
      const first = ask();
      await until('the handler runs', () => runs === 1);
      const others = Array.from({ length: 10 }, () => ask());
      await until('all are there', () => arrived() === 11);
      await fall(server, fate);
      gate.open();
      const answers = await soon(Promise.all([first, ...others]));
      expect(new Set(answers.map(({ status, text }) => `${status} ${text}`))).toEqual(
        new Set(['200 answer 1']),
      );
    },
  );

  it.each(FATES)('requests do not wait for another process during an outage (%s)', async (fate) => {
    const server = await startServer();
    let isMaking = false;
    const maker = await startProcess(server, () => {
      isMaking = true;
    });
    const waiter = await startProcess(server, (_req, res) => void res.send('made here'), {
      singleFlight: { lease: '2s' },
    });
    const misses = eventsOf(waiter.kit, 'cache:miss');
    void maker.ask().catch(() => undefined);
    await until('it is being made', () => isMaking);
    const waiting = Array.from({ length: 5 }, () => waiter.ask());
    await until('all are there', () => waiter.arrived() === 5);
    // They are waiting: another page of the same process is requested and sent meanwhile.
    expect((await waiter.ask('/b')).text).toBe('made here');
    expect(misses).toEqual([{ url: '/b' }]);
    await fall(server, fate);
    for (const { status, text } of await Promise.all(waiting))
      expect([status, text]).toEqual([200, 'made here']);
  });

  it.each(FATES)(
    'a request gets a stale response or a new one while a refresh cannot be stored (%s)',
    async (fate) => {
      const server = await startServer();
      let runs = 0;
      const options = { ttl: 50, staleWhileRevalidate: '1h', staleIfError: '1h' } as const;
      const { kit, ask } = await startProcess(server, (_req, res) => void res.send(`run ${++runs}`), options);
      await ask();
      const stale = eventsOf(kit, 'cache:stale');
      await until('it is stale', async () => {
        await ask();
        return stale.length > 0;
      });
      await fall(server, fate);
      for (let round = 0; round < 5; round++) {
        const { status, text } = await soon(ask());
        expect([status, text.slice(0, 4)]).toEqual([200, 'run ']);
      }
      await rise(server, fate);
      await hitsAgain(kit, () => ask());
    },
  );
});
