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

/** Far longer than a loaded machine delays a deadline, and far shorter than a hang. */
const SLACK_MS = 2_000;

describeWithServers('a limiter while Redis is unavailable', () => {
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

  it('the in-process fallback decides, and its decisions have `degraded: true`', async () => {
    const { app, kit } = appOn({ url: `redis://127.0.0.1:${await freePort()}` });
    const degraded: unknown[] = [];
    kit.on('rate:degraded', (event) => degraded.push(event));
    for (let tries = 0; tries < 2; tries++) {
      expect((await request(app).get('/').expect(200)).body).toMatchObject({ allowed: true, degraded: true });
    }
    await request(app).get('/').expect(429);
    expect(degraded).toHaveLength(1);
  });

  it("a limiter with `onError: 'allow'` allows every request", async () => {
    const { app } = appOn({ url: `redis://127.0.0.1:${await freePort()}` }, { onError: 'allow' });
    for (let tries = 0; tries < 5; tries++) {
      expect((await request(app).get('/').expect(200)).body).toMatchObject({ allowed: true, degraded: true });
    }
  });

  it("a limiter with `onError: 'deny'` answers with 503 and Retry-After", async () => {
    const { app } = appOn({ url: `redis://127.0.0.1:${await freePort()}` }, { onError: 'deny' });
    const refused = await request(app).get('/').expect(503);
    expect(refused.headers['content-type']).toContain('application/problem+json');
    expect(refused.headers['retry-after']).toBe('1');
  });

  it('a request waits no longer than the deadline, and not at all once the breaker is open', async () => {
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

  it('a limiter uses Redis again within 3 seconds after Redis becomes available', async () => {
    const server = await redis();
    const { app, limiter } = appOn({ url: server.url });
    await request(app).get('/').expect(200);
    await server.kill();
    await until('the fallback decides', async () => (await limiter.peek('ann')).degraded);
    await request(app).get('/').expect(200);
    await server.restart();
    await until('Redis decides again', async () => !(await limiter.peek('ann')).degraded, 3_000);
    expect(await limiter.consume('ann')).toMatchObject({ allowed: true, used: 1, degraded: false });
  });

  it('a command whose reply is lost charges its cost once', async () => {
    const server = await redis();
    const { limiter } = appOn({ url: server.url }, { limit: 100 });
    await limiter.consume('ann');
    server.freeze();
    // The command was written to the socket, but the reply missed the deadline.
    expect((await limiter.consume('ann')).degraded).toBe(true);
    server.thaw();
    await until('Redis decides again', async () => !(await limiter.peek('ann')).degraded);
    expect((await limiter.peek('ann')).used).toBe(2);
  });

  it('the in-process fallback counts 1,000 ids separately', async () => {
    const { limiter } = appOn({ url: `redis://127.0.0.1:${await freePort()}` });
    for (let id = 0; id < 1_000; id++) await limiter.consume(`id-${id}`);
    expect(await limiter.peek('id-999')).toMatchObject({ used: 1, degraded: true });
  });
});
