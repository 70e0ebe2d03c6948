import express from 'express';
import request from 'supertest';
import { expect, it, onTestFinished } from 'vitest';
import type { RateLimitOptions, RedisKit } from '../../src/index.ts';
import { describeWithServers, redisUrl } from '../support/context.ts';
import { kitForTest, testPrefix } from '../support/kits.ts';
import { startRedis } from '../support/servers.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { countCommands } from '../support/wire.ts';

const ONE = { algorithm: 'sliding-window', limit: 1, window: '1h', name: 'one', key: () => 'ann' } as const;

function ok(_req: unknown, res: { end(text: string): unknown }): void {
  res.end('ok');
}

function appWith(kit: ReturnType<typeof kitForTest>, options: RateLimitOptions) {
  const limit = kit.rateLimit(options);
  return { limit, app: express().use(limit).get('/', ok) };
}

describeWithServers('the deny cache', () => {
  async function watchedKit() {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const kit = kitForTest({ url: server.url });
    await kit.ready();
    return { kit, url: server.url };
  }

  it('a client with a remembered refusal is refused without a command to Redis', async () => {
    const { kit, url } = await watchedKit();
    const { app } = appWith(kit, { ...ONE, denyCache: { maxAge: '1h' } });
    await request(app).get('/').expect(200);
    await request(app).get('/').expect(429);
    const commands = await countCommands(url, async () => {
      for (let tries = 0; tries < 5; tries++) await request(app).get('/').expect(429);
    });
    expect(commands).toEqual([]);
  });

  it('a cost that can never be allowed is sent to Redis again after `maxAge`', async () => {
    const { kit, url } = await watchedKit();
    stopTime();
    const { limit } = appWith(kit, { ...ONE, cost: 9, denyCache: { maxAge: '100ms' } });
    const refused = () => limit.limiter.consume('ann', { cost: 9 });
    expect((await refused()).retryAfterMs).toBeNull();
    const after = (ms: number) =>
      countCommands(url, async () => {
        await passTime(ms);
        for (let tries = 0; tries < 5; tries++) await refused();
      });
    for (let turn = 0; turn < 2; turn++) {
      expect(await after(99)).toEqual([]);
      expect(await after(1)).toHaveLength(1);
    }
  });

  it('the deny cache remembers at most `maxEntries` identities', async () => {
    const { kit, url } = await watchedKit();
    const { limit } = appWith(kit, { ...ONE, denyCache: { maxEntries: 2, maxAge: '1h' } });
    for (const id of ['a', 'b', 'c', 'd']) await limit.limiter.consume(id, { cost: 9 });
    const commands = await countCommands(url, async () => {
      for (const id of ['d', 'c', 'a']) await limit.limiter.consume(id, { cost: 9 });
    });
    expect(commands).toHaveLength(1);
  });

  it('a limiter with `onDenied: "count"` sends each refused request to Redis', async () => {
    const { kit, url } = await watchedKit();
    const { limit } = appWith(kit, { ...ONE, onDenied: 'count' });
    await limit.limiter.consume('ann');
    const commands = await countCommands(url, async () => {
      for (let tries = 0; tries < 5; tries++) await limit.limiter.consume('ann');
    });
    expect(commands).toHaveLength(5);
  });
});

it('a remembered refusal reports a shrinking wait, and ends when the wait is over', async () => {
  stopTime();
  const kit = kitForTest({ url: 'memory:' });
  const { limit } = appWith(kit, { ...ONE, window: '150ms', denyCache: { maxAge: '1h' } });
  await limit.limiter.consume('ann');
  const first = await limit.limiter.consume('ann');
  expect(first.allowed).toBe(false);
  let decision = first;
  while (!decision.allowed) {
    expect(decision.retryAfterMs).toBeLessThanOrEqual(first.retryAfterMs ?? 0);
    expect(decision.retryAfterMs).toBeGreaterThanOrEqual(1);
    await passTime(10);
    decision = await limit.limiter.consume('ann');
  }
  expect(decision.used).toBe(1);
});

it('a remembered refusal is forgotten after a reset or a refund in the same process', async () => {
  const kit = kitForTest({ url: 'memory:' });
  const { limit } = appWith(kit, { ...ONE, denyCache: { maxAge: '1h' } });
  const allowed = await limit.limiter.consume('ann');
  expect((await limit.limiter.consume('ann')).allowed).toBe(false);
  await limit.limiter.refund(allowed);
  expect((await limit.limiter.consume('ann')).allowed).toBe(true);
  expect((await limit.limiter.consume('ann')).allowed).toBe(false);
  await limit.limiter.reset('ann');
  expect((await limit.limiter.consume('ann')).allowed).toBe(true);
});

it('a remembered refusal does not refuse a smaller cost or a higher limit', async () => {
  const kit = kitForTest({ url: 'memory:' });
  const { limit } = appWith(kit, { ...ONE, limit: 3, denyCache: { maxAge: '1h' } });
  await limit.limiter.consume('ann');
  expect((await limit.limiter.consume('ann', { cost: 3 })).allowed).toBe(false);
  expect((await limit.limiter.consume('ann', { cost: 2 })).allowed).toBe(true);
  expect((await limit.limiter.consume('ann')).allowed).toBe(false);
  expect((await limit.limiter.consume('ann', { limit: 4 })).allowed).toBe(true);
});

it('a remembered refusal does not decide the wait of another cost or limit', async () => {
  const kit = kitForTest({ url: 'memory:' });
  const { limit } = appWith(kit, { ...ONE, limit: 3, denyCache: { maxAge: '1h' } });
  await limit.limiter.consume('ann', { cost: 2 });
  expect((await limit.limiter.consume('ann', { cost: 2 })).retryAfterMs).toBeGreaterThan(0);
  expect((await limit.limiter.consume('ann', { cost: 4 })).retryAfterMs).toBeNull();
  expect((await limit.limiter.consume('ann', { cost: 2, limit: 1 })).retryAfterMs).toBeNull();
  await expect(limit.limiter.consume('ann', { cost: 2, limit: -1 })).rejects.toThrow('limit');
});

it('a refusal that arrives during a reset or a refund is not remembered', async () => {
  const kit = kitForTest({ url: redisUrl() });
  const { limit } = appWith(kit, { ...ONE, denyCache: { maxAge: '1h' } });
  const allowed = await limit.limiter.consume('ann');
  for (const refund of [() => limit.limiter.refund(allowed), () => limit.limiter.reset('ann')]) {
    const [refused] = await Promise.all([limit.limiter.consume('ann'), refund()]);
    expect(refused.allowed).toBe(false);
    expect((await limit.limiter.consume('ann')).allowed).toBe(true);
  }
});

it('the deny cache stores a short key for a long id', async () => {
  const kit = kitForTest({ url: redisUrl() });
  const { limit } = appWith(kit, { ...ONE, denyCache: { maxAge: '1h' } });
  const long = 'x'.repeat(100_000);
  await limit.limiter.consume(long);
  expect((await limit.limiter.consume(long)).allowed).toBe(false);
  expect((await limit.limiter.consume(`${long}y`)).allowed).toBe(true);
  await limit.limiter.reset(long);
  expect((await limit.limiter.consume(long)).allowed).toBe(true);
});

it('a reset in another process ends a remembered refusal after `maxAge`, and not before', async () => {
  const prefix = testPrefix();
  const [here, there] = [1, 2].map(() => kitForTest({ url: redisUrl(), prefix }));
  const { limit } = appWith(here as RedisKit, { ...ONE, denyCache: { maxAge: '300ms' } });
  const { limit: other } = appWith(there as RedisKit, { ...ONE });
  await limit.limiter.consume('ann');
  const started = performance.now();
  expect((await limit.limiter.consume('ann')).allowed).toBe(false);
  await other.limiter.reset('ann');
  await until('the reset takes effect', async () => (await limit.limiter.consume('ann')).allowed);
  expect(performance.now() - started).toBeGreaterThanOrEqual(299);
});
