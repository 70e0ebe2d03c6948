import express from 'express';
import request from 'supertest';
import { expect, it, onTestFinished } from 'vitest';
import type { KitOptions, RateLimitOptions } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { freePort, type RedisServer, startRedis } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';

const TWO = { algorithm: 'sliding-window', limit: 2, window: '1h', name: 'two', key: () => 'ann' } as const;

/** Far more than a loaded machine adds to a deadline, far less than a hang. */
const SLACK_MS = 2_000;

describeWithServers('while Redis cannot be asked, a rate limit', () => {
  async function redis(): Promise<RedisServer> {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    return server;
  }

  function appOn(options: KitOptions, limit: Partial<RateLimitOptions> = {}) {
    const kit = kitForTest({ commandTimeout: '200ms', ...options });
    const middleware = kit.rateLimit({ ...TWO, denyCache: false, ...limit } as RateLimitOptions);
    const app = express()
      .use(middleware)
      .get('/', (req, res) => res.json(req.rateLimit ?? null));
    return { kit, app, limiter: middleware.limiter };
  }

  it('is decided by the stand-in of this process, and says so', async () => {
    const { app, kit } = appOn({ url: `redis://127.0.0.1:${await freePort()}` });
    const degraded: unknown[] = [];
    kit.on('rate:degraded', (event) => degraded.push(event));
    for (let tries = 0; tries < 2; tries++) {
      expect((await request(app).get('/').expect(200)).body).toMatchObject({ allowed: true, degraded: true });
    }
    await request(app).get('/').expect(429);
    expect(degraded).toHaveLength(1);
  });

  it('lets everything through, where told to', async () => {
    const { app } = appOn({ url: `redis://127.0.0.1:${await freePort()}` }, { onError: 'allow' });
    for (let tries = 0; tries < 5; tries++) {
      expect((await request(app).get('/').expect(200)).body).toMatchObject({ allowed: true, degraded: true });
    }
  });

  it('answers 503 with Retry-After, where told to', async () => {
    const { app } = appOn({ url: `redis://127.0.0.1:${await freePort()}` }, { onError: 'deny' });
    const refused = await request(app).get('/').expect(503);
    expect(refused.headers['content-type']).toContain('application/problem+json');
    expect(refused.headers['retry-after']).toBe('1');
  });

  it('never waits longer than the deadline, and soon not at all', async () => {
    const server = await redis();
    const { app, kit } = appOn({ url: server.url });
    const breaker: string[] = [];
    kit.on('connection:breaker', ({ state }) => breaker.push(state));
    await request(app).get('/').expect(200);
    server.freeze();
    const elapsedMs = stopwatch();
    const bodies = await Promise.all(
      Array.from({ length: 2 }, async () => (await request(app).get('/')).body),
    );
    expect(elapsedMs()).toBeLessThan(200 + SLACK_MS);
    expect(bodies).toEqual(Array(2).fill(expect.objectContaining({ degraded: true })));
    await until('the breaker opens', async () => {
      await request(app).get('/');
      return breaker.includes('open');
    });
    const openMs = stopwatch();
    for (let tries = 0; tries < 20; tries++) await request(app).get('/').expect(429);
    // Twenty deadlines would be four seconds.
    expect(openMs()).toBeLessThan(SLACK_MS);
    server.thaw();
    await until('Redis decides again', async () => (await request(app).get('/')).body.degraded !== true);
  });

  it('is Redis’s again within moments of its return, and counted on from there', async () => {
    const server = await redis();
    const { app, limiter } = appOn({ url: server.url });
    await request(app).get('/').expect(200);
    await server.kill();
    await until('the stand-in decides', async () => (await limiter.peek('ann')).degraded);
    await request(app).get('/').expect(200);
    await server.restart();
    await until('Redis decides again', async () => !(await limiter.peek('ann')).degraded, 3_000);
    expect(await limiter.consume('ann')).toMatchObject({ allowed: true, used: 1, degraded: false });
  });

  it('never counts a command twice whose answer was lost', async () => {
    const server = await redis();
    const { limiter } = appOn({ url: server.url }, { limit: 100 });
    await limiter.consume('ann');
    server.freeze();
    // Written to the socket, but not answered before the deadline.
    expect((await limiter.consume('ann')).degraded).toBe(true);
    server.thaw();
    await until('Redis decides again', async () => !(await limiter.peek('ann')).degraded);
    expect((await limiter.peek('ann')).used).toBe(2);
  });

  it('is a degraded memory that is bounded by what it can forget', async () => {
    const { limiter } = appOn({ url: `redis://127.0.0.1:${await freePort()}` });
    for (let id = 0; id < 1_000; id++) await limiter.consume(`id-${id}`);
    expect(await limiter.peek('id-999')).toMatchObject({ used: 1, degraded: true });
  });
});
