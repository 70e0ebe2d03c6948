import express, { type RequestHandler } from 'express';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { Gate } from '../http/exchange.ts';
import { canStartServers, redisUrl } from '../support/context.ts';
import { describeOnBothEngines, eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { startProgram } from '../support/program.ts';
import { startRedis } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';
import { loadCacheScripts } from './scripts.ts';

/** An app whose page waits for the gate, and the number of its requests. */
async function gated(kit: ReturnType<typeof kitForTest>, gate: Gate, options = {}) {
  let [arrived, runs] = [0, 0];
  const app = express().set('env', 'test');
  app.use((_req, _res, next) => {
    arrived++;
    next();
  });
  const handler: RequestHandler = async (_req, res) => {
    const run = ++runs;
    await gate.promise;
    res.send(`run ${run}`);
  };
  app.use(kit.cache({ ttl: '1m', key: { host: false }, ...options }), handler);
  const address = await serve(app);
  return { ask: () => send(`${address}/a`), arrived: () => arrived, runs: () => runs };
}

describeOnBothEngines('a cache of a kit that is closed', (url) => {
  it('a request that waits for the handler of another request when the kit closes gets the response', async () => {
    const kit = kitForTest({ url: url() });
    const gate = new Gate();
    const { ask, arrived, runs } = await gated(kit, gate);
    const first = ask();
    await until('the handler runs', () => runs() === 1);
    const others = Array.from({ length: 5 }, () => ask());
    await until('all are there', () => arrived() === 6);
    await kit.close();
    gate.open();
    for (const { status, text } of await Promise.all([first, ...others])) {
      expect([status, text]).toEqual([200, 'run 1']);
    }
    expect((await ask()).status).toBe(200);
    expect((await ask()).status).toBe(200);
  });

  it('kit.warm() rejects once the kit is closed', async () => {
    const kit = kitForTest({ url: url() });
    await kit.close();
    const warmed = kit.warm([{ key: 'a', load: () => 1 }]);
    await expect(warmed).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CLOSED' });
  });

  it('closing the kit aborts the signal of a running loader, and the callers get the error of the loader', async () => {
    const kit = kitForTest({ url: url() });
    let isLoading = false;
    const load = ({ signal }: { signal: AbortSignal }) => {
      isLoading = true;
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new Error('told to stop')));
      });
    };
    const values = Array.from({ length: 5 }, () => kit.remember('key', '1m', load));
    const ends = Promise.allSettled(values);
    await until('it loads', () => isLoading);
    await kit.close();
    for (const end of await ends) expect(String(Reflect.get(end, 'reason'))).toContain('told to stop');
    expect(await kit.remember('key', '1m', () => 'loaded'), 'who comes later loads').toBe('loaded');
    await expect(kit.invalidate({ all: true })).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CLOSED' });
  });
});

describe('a cache on Redis of a kit that is closed', () => {
  beforeAll(() => loadCacheScripts(redisUrl()));

  it('a request that waits for another process when the kit closes runs its own handler', async () => {
    const prefix = testPrefix();
    const [maker, waiter] = [
      kitForTest({ url: redisUrl(), prefix }),
      kitForTest({ url: redisUrl(), prefix }),
    ];
    const gate = new Gate();
    gate.open();
    const making = await gated(maker, new Gate());
    const waiting = await gated(waiter, gate, { singleFlight: { lease: '30s', wait: '30s' } });
    const stuck = making.ask().catch(() => undefined);
    await until('it is being made', () => making.runs() === 1);
    const answers = Array.from({ length: 5 }, () => waiting.ask());
    await until('all are there', () => waiting.arrived() === 5);
    await waiter.close();
    for (const { status } of await Promise.all(answers)) expect(status).toBe(200);
    await maker.close();
    void stuck;
  });

  it.skipIf(!canStartServers())('closing the kit ends waits for a Redis that does not reply', async () => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const kit = kitForTest({ url: server.url, commandTimeout: '1m' });
    await kit.ready();
    const gate = new Gate();
    gate.open();
    const { ask, arrived } = await gated(kit, gate);
    server.freeze();
    const answers = Array.from({ length: 5 }, () => ask());
    const value = kit.remember('key', '1m', () => 'loaded');
    await until('all are there', () => arrived() === 5);
    await kit.close({ timeout: '100ms' });
    for (const { status } of await Promise.all(answers)) expect(status).toBe(200);
    expect(await value).toBe('loaded');
  });

  it('a response that was completed just before the kit closed is still stored', async () => {
    const prefix = testPrefix();
    const kit = kitForTest({ url: redisUrl(), prefix });
    const gate = new Gate();
    gate.open();
    const { ask } = await gated(kit, gate);
    await ask();
    await kit.close();
    const next = kitForTest({ url: redisUrl(), prefix });
    const hits = eventsOf(next, 'cache:hit');
    await (await gated(next, gate)).ask();
    expect(hits).toHaveLength(1);
  });

  it('a process exits by itself after its kit is closed: no timer keeps the process alive and no rejection is unhandled', async () => {
    const program = startProgram(`
      import express from 'express';
      import { once } from 'node:events';
      const kit = createRedisKit({ url: '${redisUrl()}', prefix: '${testPrefix()}', logger: false });
      await kit.ready();
      const app = express();
      const never = new Set(['/never', '/never-again']);
      let stales = 0;
      app.use(kit.cache({ ttl: 1, staleWhileRevalidate: '1h' }), (req, res) => {
        if (never.has(req.url)) return;
        if (req.url === '/stale' && stales++ > 0) return;
        res.send('body');
      });
      const server = app.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const ask = (path) => fetch('http://127.0.0.1:' + server.address().port + path).then((res) => res.text());
      await ask('/stale');
      while (stales < 2) await ask('/stale');
      const lost = ['/never', '/never', '/never-again'].map((path) => ask(path).catch(() => 'lost'));
      const load = () => new Promise(() => undefined);
      void kit.remember('key', '1m', load);
      void kit.remember('key', '1m', load);
      await ask('/last');
      await kit.close();
      server.closeAllConnections();
      server.close();
      console.log((await Promise.all(lost)).join());
    `);
    expect(await program.line()).toBe('lost,lost,lost');
    const elapsedMs = stopwatch();
    expect(await program.ended).toEqual({ code: 0, said: 'lost,lost,lost' });
    expect(elapsedMs(), 'far less than the 10 s that some would wait').toBeLessThan(5_000);
  });
});
