import express from 'express';
import { expect, it, onTestFinished, vi } from 'vitest';
import type { KitOptions, Logger } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { freePort, type RedisServer, startRedis } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';
import { type Answer, send, serve } from '../support/web.ts';

/** Much longer than a request that does not wait, so that the two can be distinguished. */
const TIMEOUT_MS = 1_500;
const AT_ONCE_MS = 750;

async function startForTest(options: Parameters<typeof startRedis>[0] = {}): Promise<RedisServer> {
  const server = await startRedis(options);
  onTestFinished(() => server.stop());
  return server;
}

/** One route per feature, and one that passes all four during an outage too. */
async function startApp(options: KitOptions) {
  const kit = kitForTest({ commandTimeout: TIMEOUT_MS, ...options });
  const app = express();
  const limit = (name: string) =>
    kit.rateLimit({ algorithm: 'sliding-window', limit: 1_000, window: '1m', name });
  const secret = 'a secret for this test';
  app.get('/session', kit.session({ secret }), (req, res) => {
    Object.assign(req.session, { seen: true });
    res.send('fine');
  });
  app.get('/limit', limit('alone'), (req, res) => void res.json({ degraded: req.rateLimit?.degraded }));
  app.get('/cache', kit.cache({ ttl: '1m' }), (_req, res) => void res.send('made by the handler'));
  app.get('/lock', kit.lock({ key: () => 'a' }), (_req, res) => void res.send('fine'));
  const chain = [
    kit.session({ secret, onError: 'anonymous', saveUninitialized: true }),
    limit('chain'),
    kit.cache({ ttl: '1m' }),
    kit.lock({ key: (req) => req.url, onError: 'allow' }),
  ];
  app.get('/chain/:id', ...chain, (_req, res) => void res.send('passed all four'));
  return { kit, address: await serve(app) };
}

async function timed(url: string): Promise<Answer & { readonly ms: number }> {
  const elapsedMs = stopwatch();
  const answer = await send(url);
  return { ...answer, ms: elapsedMs() };
}

async function expectPolicies(address: string): Promise<void> {
  for (const feature of ['session', 'lock']) {
    const refusal = await timed(`${address}/${feature}`);
    expect(refusal.status).toBe(503);
    expect(refusal.headers['content-type']).toContain('application/problem+json');
    expect(Number(refusal.headers['retry-after'])).toBeGreaterThanOrEqual(1);
    expect(refusal.ms).toBeLessThan(AT_ONCE_MS);
  }
  const limited = await timed(`${address}/limit`);
  expect(JSON.parse(limited.text)).toEqual({ degraded: true });
  expect(limited.ms).toBeLessThan(AT_ONCE_MS);
  const cached = await timed(`${address}/cache`);
  expect(cached).toMatchObject({ status: 200, text: 'made by the handler' });
  expect(cached.ms).toBeLessThan(AT_ONCE_MS);
}

async function works(address: string): Promise<boolean> {
  const [session, limit, lock] = await Promise.all(
    ['session', 'limit', 'lock'].map((feature) => send(`${address}/${feature}`)),
  );
  return session?.status === 200 && limit?.text === '{"degraded":false}' && lock?.status === 200;
}

async function expectRecovery(address: string, deadlineMs = 10_000): Promise<void> {
  await until('session, limit and lock work', () => works(address), deadlineMs);
  await send(`${address}/cache`);
  await until('the cache answers', async () => (await send(`${address}/cache`)).headers.age !== undefined);
}

describeWithServers('an outage of Redis', () => {
  it('while Redis is down at start-up, every feature follows its failure policy without waiting', async () => {
    const port = await freePort();
    const { kit, address } = await startApp({ port });
    const ups = eventsOf(kit, 'connection:up');
    const downs = eventsOf(kit, 'connection:down');
    await until('the first attempt has failed', () => downs.length > 0);
    for (let round = 0; round < 3; round++) await expectPolicies(address);
    await startForTest({ port });
    await kit.ready();
    expect(await works(address), 'as soon as it is ready').toBe(true);
    await expectRecovery(address);
    expect([ups.length, downs.length]).toEqual([1, 1]);
  });

  it('after Redis is killed, every feature follows its failure policy until the restart', async () => {
    const server = await startForTest();
    const { kit, address } = await startApp({ url: server.url });
    const downs = eventsOf(kit, 'connection:down');
    await kit.ready();
    await expectRecovery(address);
    await server.kill();
    await until('the loss is noticed', () => downs.length > 0);
    await expectPolicies(address);
    await server.restart();
    await expectRecovery(address);
    await server.kill();
    await until('the second loss is noticed', () => downs.length > 1);
    await expectPolicies(address);
    await server.restart();
    await expectRecovery(address);
  });

  it('each outage is emitted and logged once per feature and not once per request', async () => {
    const server = await startForTest();
    const log = vi.fn<Logger['error']>();
    const logger = { debug: vi.fn(), info: vi.fn(), warn: vi.fn(), error: log };
    const { kit, address } = await startApp({ url: server.url, logger });
    const errors = eventsOf(kit, 'error');
    const downs = eventsOf(kit, 'connection:down');
    await expectRecovery(address);
    for (let outage = 1; outage <= 2; outage++) {
      await server.kill();
      await until('the loss is noticed', () => downs.length === outage);
      for (let round = 0; round < 5; round++) await expectPolicies(address);
      const matching = errors.filter(
        ({ error }) => 'code' in error && error.code === 'ERR_REDIS_KIT_CONNECTION',
      );
      for (const feature of ['session', 'rate', 'cache', 'lock']) {
        expect(matching.filter((event) => event.feature === feature)).toHaveLength(outage);
        expect(log.mock.calls.filter(([message]) => String(message).includes(`${feature}: `))).toHaveLength(
          outage,
        );
      }
      await server.restart();
      await expectRecovery(address);
    }
  });
});

describeWithServers('a frozen Redis', () => {
  it('a request to a frozen Redis waits one commandTimeout in all its middleware together', async () => {
    const server = await startForTest();
    const { kit, address } = await startApp({ url: server.url });
    await kit.ready();
    server.freeze();
    const frozenAt = performance.now();
    const answers = await Promise.all([1, 2].map((id) => timed(`${address}/chain/${id}`)));
    expect(performance.now() - frozenAt).toBeGreaterThan(TIMEOUT_MS - 100);
    for (const answer of answers) {
      expect(answer.text).toBe('passed all four');
      expect(answer.ms, 'four waits would take four times as long').toBeLessThan(TIMEOUT_MS * 2);
    }
  });

  it('requests to a frozen Redis do not wait after the first timeouts', async () => {
    const server = await startForTest();
    const { kit, address } = await startApp({ url: server.url });
    const breaker = eventsOf(kit, 'connection:breaker');
    await expectRecovery(address);
    server.freeze();
    const first = await Promise.all(['session', 'limit', 'lock'].map((name) => timed(`${address}/${name}`)));
    for (const answer of first) expect(answer.ms).toBeLessThan(TIMEOUT_MS * 2);
    expect(breaker).toEqual([{ node: 'redis', state: 'open' }]);
    for (let round = 0; round < 3; round++) await expectPolicies(address);
    server.thaw();
    await expectRecovery(address, 2_500);
    expect(breaker).toEqual([
      { node: 'redis', state: 'open' },
      { node: 'redis', state: 'closed' },
    ]);
  });

  it('the kit reconnects to a Redis that was frozen until its sockets were closed', async () => {
    const server = await startForTest();
    const { kit, address } = await startApp({ url: server.url });
    await expectRecovery(address);
    server.freeze();
    await Promise.all(['session', 'limit', 'lock'].map((name) => send(`${address}/${name}`)));
    const isNewSocket = new Promise((resolve) => {
      (kit.client as unknown as NodeJS.EventEmitter).once('reconnecting', resolve);
    });
    await isNewSocket;
    await expectPolicies(address);
    server.thaw();
    await expectRecovery(address, 5_000);
  });
});
