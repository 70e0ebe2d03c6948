import express from 'express';
import { rateLimit } from 'express-rate-limit';
import request from 'supertest';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { ExpressRateLimitStore } from '../../src/index.ts';
import { TestClock } from '../support/both-engines.ts';
import { redisUrl } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { onEveryStore } from '../support/stores.ts';

onEveryStore('kit.expressRateLimitStore', (kitOf) => {
  function storeOf(windowMs = 3_600_000): ExpressRateLimitStore {
    const store = kitOf().expressRateLimitStore();
    store.init({ windowMs });
    return store;
  }

  it('express-rate-limit counts and refuses requests with kit.expressRateLimitStore', async () => {
    const app = express()
      .use(rateLimit({ limit: 2, windowMs: 3_600_000, store: kitOf().expressRateLimitStore() }))
      .get('/', (_req, res) => void res.end('ok'));
    for (const remaining of ['1', '0']) {
      const passed = await request(app).get('/').expect(200);
      expect(passed.headers['x-ratelimit-remaining']).toBe(remaining);
    }
    await request(app).get('/').expect(429);
  });

  it('express-rate-limit accepts several named stores in one app without a warning', async () => {
    const kit = kitOf();
    const warnings: unknown[] = [];
    const error = vi.spyOn(console, 'error').mockImplementation((warning) => void warnings.push(warning));
    onTestFinished(() => error.mockRestore());
    const stores = [
      kit.expressRateLimitStore(),
      kit.expressRateLimitStore({ name: 'minute' }),
      kit.expressRateLimitStore({ name: 'hour' }),
      kit.namespace('tenant').expressRateLimitStore({ name: 'hour' }),
    ];
    expect(new Set(stores.map(({ prefix }) => prefix)).size).toBe(4);
    const app = express();
    for (const store of stores) app.use(rateLimit({ limit: 2, windowMs: 3_600_000, store }));
    app.get('/', (_req, res) => void res.end('ok'));
    await request(app).get('/').expect(200);
    await request(app).get('/').expect(200);
    await request(app).get('/').expect(429);
    expect(warnings).toEqual([]);
  });

  it('kit.expressRateLimitStore increments, decrements and resets a counter', async () => {
    const store = storeOf();
    expect(await store.get('ann')).toBeUndefined();
    const info = await store.increment('ann');
    expect(info.totalHits).toBe(1);
    const left = (info.resetTime?.getTime() ?? 0) - Date.now();
    expect(left).toBeGreaterThan(3_500_000);
    expect((await store.increment('ann')).totalHits).toBe(2);
    expect((await store.increment('bob')).totalHits).toBe(1);
    await store.decrement('ann');
    expect((await store.get('ann'))?.totalHits).toBe(1);
    await store.resetKey('ann');
    expect(await store.get('ann')).toBeUndefined();
    expect((await store.get('bob'))?.totalHits).toBe(1);
  });

  it('kit.expressRateLimitStore counts each of 50 parallel hits', async () => {
    const store = storeOf();
    const hits = await Promise.all(Array.from({ length: 50 }, () => store.increment('ann')));
    expect(new Set(hits.map(({ totalHits }) => totalHits)).size).toBe(50);
  });

  it('the method `resetAll` deletes all counters of the store and no other keys', async () => {
    const kit = kitOf();
    const store = kit.expressRateLimitStore();
    const others = [
      kit.expressRateLimitStore({ name: 'express-rate-limit-2' }),
      kit.namespace('rate').expressRateLimitStore(),
    ];
    const limiter = kit.limiter({ algorithm: 'sliding-window', limit: 3, window: '1h', name: 'own' });
    await limiter.consume('ann');
    const ids = [
      'ann',
      '*',
      '}:express-rate-limit',
      'x'.repeat(100),
      ...Array.from({ length: 300 }, (_, n) => `id-${n}`),
    ];
    for (const each of [store, ...others]) await Promise.all(ids.map((id) => each.increment(id)));
    await store.resetAll();
    for (const id of ids) expect(await store.get(id)).toBeUndefined();
    for (const other of others) expect((await other.get('ann'))?.totalHits).toBe(1);
    expect((await limiter.peek('ann')).used).toBe(1);
  });

  it('a decrement never lowers a counter below zero, and creates no counter', async () => {
    const store = storeOf();
    await store.decrement('ann');
    expect(await store.get('ann')).toBeUndefined();
    await store.increment('ann');
    await store.decrement('ann');
    await store.decrement('ann');
    expect((await store.get('ann'))?.totalHits).toBe(0);
  });
});

describe('kit.expressRateLimitStore', () => {
  it('a fixed window ends after `windowMs`, and the next hit begins a new window', async () => {
    const clock = new TestClock();
    const store = kitForTest({ url: 'memory:', clock }).expressRateLimitStore();
    store.init({ windowMs: 1_000 });
    await store.increment('ann');
    clock.time += 999;
    expect((await store.increment('ann')).totalHits).toBe(2);
    clock.time += 1;
    await store.decrement('ann');
    expect(await store.get('ann')).toBeUndefined();
    expect((await store.increment('ann')).totalHits).toBe(1);
  });

  it('a counter always has a TTL, even if a decrement follows the end of its window', async () => {
    const kit = kitForTest({ url: redisUrl() });
    const store = kit.expressRateLimitStore();
    store.init({ windowMs: 3_600_000 });
    await store.increment('ann');
    await withPlainClient(redisUrl(), async (client) => {
      const [key = ''] = await client.keys(`${kit.prefix}:*`);
      expect(await client.pTTL(key)).toBeGreaterThan(0);
      await store.decrement('ann');
      expect(await client.pTTL(key)).toBeGreaterThan(0);
      await client.del(key);
      await store.decrement('ann');
      expect(await client.exists(key)).toBe(0);
    });
  });

  it('kit.expressRateLimitStore rejects an invalid window and an invalid name', () => {
    const kit = kitForTest({ url: 'memory:' });
    expect(() => kit.expressRateLimitStore({ name: 'a:b' })).toThrow('`name`');
    const store = kit.expressRateLimitStore();
    for (const windowMs of [0, -1, 1.5, Number.NaN, 2 ** 31])
      expect(() => store.init({ windowMs })).toThrow('windowMs');
    expect(() => kit.expressRateLimitStore()).toThrow('exists already');
  });
});
