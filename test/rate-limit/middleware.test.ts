import { EventEmitter, once } from 'node:events';
import { get, type IncomingMessage, type ServerResponse } from 'node:http';
import connect from 'connect';
import express from 'express';
import express4 from 'express4';
import request from 'supertest';
import { describe, expect, it, vi } from 'vitest';
import { kitForTest } from '../support/kits.ts';
import { onEveryStore } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { serve } from '../support/web.ts';

const THREE = { algorithm: 'sliding-window', limit: 3, window: '1h', name: 'three' } as const;

function ok(_req: unknown, res: { end(text: string): unknown }): void {
  res.end('ok');
}

onEveryStore('kit.rateLimit', (kitOf) => {
  it('a request above the limit is refused with 429, the rate headers, Retry-After and problem+json', async () => {
    const app = express().use(kitOf().rateLimit(THREE)).get('/', ok);
    for (const remaining of [2, 1, 0]) {
      const passed = await request(app).get('/').expect(200, 'ok');
      expect(passed.headers['ratelimit-policy']).toBe('"three";q=3;w=3600');
      expect(passed.headers.ratelimit).toBe(`"three";r=${remaining};t=3600`);
    }
    const refused = await request(app).get('/').expect(429);
    expect(refused.headers['content-type']).toBe('application/problem+json; charset=utf-8');
    expect(refused.headers['cache-control']).toBe('no-store');
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(3_500);
    expect(refused.body).toEqual({
      type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
      title: 'Too Many Requests',
      status: 429,
      detail: expect.any(String),
      'violated-policies': ['three'],
    });
  });

  it('a limiter allows exactly as many parallel requests as its limit', async () => {
    const base = await serve(express().use(kitOf().rateLimit(THREE)).get('/', ok));
    const statuses = await Promise.all(Array.from({ length: 30 }, async () => (await fetch(base)).status));
    expect(statuses.filter((status) => status === 200)).toHaveLength(3);
  });

  it('a request charges all policies of one identity, or none if one refuses', async () => {
    const limit = kitOf().rateLimit({
      policies: [
        { algorithm: 'sliding-window', limit: 2, window: '1h', name: 'hourly' },
        { algorithm: 'token-bucket', capacity: 5, refill: { tokens: 1, per: '1h' }, name: 'burst' },
      ],
      key: () => 'ann',
      denyCache: false,
    });
    const app = express().use(limit).get('/', ok);
    for (let tries = 0; tries < 6; tries++) await request(app).get('/');
    const refused = await request(app).get('/').expect(429);
    expect(refused.body['violated-policies']).toEqual(['hourly']);
    expect(await limit.limiter.peek('ann')).toMatchObject({
      policies: [
        { name: 'hourly', used: 2, allowed: false },
        { name: 'burst', used: 2, allowed: true },
      ],
    });
  });

  it('a request that the policy of one identity refuses is refunded to the other identities', async () => {
    const kit = kitOf();
    const limit = kit.rateLimit({
      policies: [
        {
          algorithm: 'sliding-window',
          limit: 1,
          window: '1h',
          name: 'user',
          key: (req) => req.get('user') ?? null,
        },
        {
          algorithm: 'sliding-window',
          limit: 10,
          window: '1h',
          name: 'team',
          key: (req) => req.get('team') ?? null,
        },
      ],
      denyCache: false,
    });
    const app = express().use(limit).get('/', ok);
    await request(app).get('/').set('user', 'ann').set('team', 'red').expect(200);
    const refused = await request(app).get('/').set('user', 'ann').set('team', 'red').expect(429);
    expect(refused.body['violated-policies']).toEqual(['user']);
    expect(refused.headers.ratelimit).toMatch(/"user";r=0;t=\d+, "team";r=9;t=\d+/);
    await request(app).get('/').set('user', 'bob').set('team', 'red').expect(200);
    const team = (await limit.limiter.peek('red')).policies.find(({ name }) => name === 'team');
    expect(team?.used).toBe(2);
    await request(app).get('/').expect(200);
  });

  it("a refused request is charged with `onDenied: 'count'`", async () => {
    const limit = kitOf().rateLimit({ ...THREE, onDenied: 'count', key: () => 'ann' });
    const app = express().use(limit).get('/', ok);
    for (let tries = 0; tries < 10; tries++) await request(app).get('/');
    const refused = await request(app).get('/').expect(429);
    expect(refused.headers['retry-after']).toBe('3600');
    expect((await limit.limiter.peek('ann')).used).toBe(3);
  });

  it('the cost of a request is refunded if `refundWhen` returns true for the response', async () => {
    const limit = kitOf().rateLimit({
      ...THREE,
      key: () => 'ann',
      refundWhen: (_req, res) => res.statusCode === 404,
    });
    const app = express().use(limit).get('/', ok);
    for (let tries = 0; tries < 5; tries++) await request(app).get('/missing').expect(404);
    await until('the refunds are done', async () => (await limit.limiter.peek('ann')).used === 0);
    await request(app).get('/').expect(200);
    expect((await limit.limiter.peek('ann')).used).toBe(1);
  });

  it('the limit and the cost may be functions of the request', async () => {
    const limit = kitOf().rateLimit({
      algorithm: 'sliding-window',
      limit: (req) => Number(req.get('limit')),
      window: '1h',
      name: 'plan',
      key: () => 'ann',
      cost: (req) => Number(req.get('cost')),
    });
    const app = express().use(limit).get('/', ok);
    await request(app).get('/').set({ limit: '10', cost: '7' }).expect(200);
    await request(app).get('/').set({ limit: '10', cost: '7' }).expect(429);
    // The known refusal of a cost of 7 with a limit of 10 applies neither to a cost of 3 nor to a limit of 20.
    await request(app).get('/').set({ limit: '10', cost: '3' }).expect(200);
    await request(app).get('/').set({ limit: '20', cost: '10' }).expect(200);
    await request(app).get('/').set({ limit: 'many', cost: '1' }).expect(500);
    await request(app).get('/').set({ limit: '10', cost: 'much' }).expect(500);
  });

  it('a limiter in shadow mode emits refusals, and refuses no request', async () => {
    const kit = kitOf();
    const refusals: unknown[] = [];
    kit.on('rate:refused', (event) => refusals.push(event));
    const app = express()
      .use(kit.rateLimit({ ...THREE, shadow: true, key: () => 'ann' }))
      .get('/', (req, res) => res.json(req.rateLimit?.allowed));
    for (let tries = 0; tries < 5; tries++) {
      const passed = await request(app)
        .get('/')
        .expect(200, String(tries < 3));
      expect(passed.headers.ratelimit).toBeUndefined();
    }
    expect(refusals).toEqual(Array(2).fill({ ids: ['ann'], policies: ['three'] }));
  });
});

describe('kit.rateLimit', () => {
  const memory = () => kitForTest({ url: 'memory:' });

  it('a limiter works in Express 4, in Connect and in plain handlers', async () => {
    const limit = memory().rateLimit({ ...THREE, limit: 1, denyCache: false });
    const fourth = express4().use(limit).get('/', ok);
    await request(fourth).get('/').expect(200);
    await request(fourth).get('/').expect(429);
    await request(connect().use(limit).use(ok)).get('/').expect(429);
    const base = await serve((req, res) => limit(req, res, () => res.end('passed')));
    expect((await fetch(base)).status).toBe(429);
  });

  it('the middleware of kit.rateLimit is a named function of three arguments', () => {
    const limit = memory().rateLimit(THREE);
    expect(limit.name).toBe('rateLimit');
    expect(limit).toHaveLength(3);
  });

  it('a request for which `skip` returns true is not counted', async () => {
    const limit = memory().rateLimit({
      ...THREE,
      limit: 1,
      skip: async (req) => req.path === '/health',
      key: () => 'a',
    });
    const app = express().use(limit).get('/health', ok).get('/', ok);
    for (let tries = 0; tries < 3; tries++) await request(app).get('/health').expect(200);
    await request(app).get('/').expect(200);
    await request(app).get('/').expect(429);
    await request(app).get('/health').expect(200);
  });

  it('a request whose `key` is null is not counted', async () => {
    const app = express()
      .use(memory().rateLimit({ ...THREE, limit: 1, key: async () => null }))
      .get('/', ok);
    for (let tries = 0; tries < 3; tries++) await request(app).get('/').expect(200);
  });

  it('an invalid `key` and the error of a callback are passed to `next` exactly once', async () => {
    const next = vi.fn();
    for (const option of [
      { key: () => undefined as unknown as string },
      { key: () => ({}) as unknown as string },
      { key: () => Promise.reject(new Error('no database')) },
      {
        skip: () => {
          throw new Error('no database');
        },
      },
      {
        cost: () => {
          throw new Error('no database');
        },
      },
    ]) {
      const limit = memory().rateLimit({ ...THREE, ...option });
      const { req, res } = await requestOf();
      next.mockClear();
      limit(req, res, next);
      await until('next is called', () => next.mock.calls.length > 0);
      await new Promise(setImmediate);
      expect(next.mock.calls).toEqual([[expect.any(Error)]]);
      expect(res.writableEnded).toBe(false);
    }
  });

  it('the option `handler` answers a refused request', async () => {
    const app = express()
      .use(
        memory().rateLimit({
          ...THREE,
          limit: 1,
          handler: (_req, res, _next, decision) => res.status(420).json(decision.limit),
        }),
      )
      .get('/', ok);
    await request(app).get('/').expect(200);
    const refused = await request(app).get('/').expect(420, '1');
    expect(refused.headers.ratelimit).toBe('"three";r=0;t=3600');
  });

  it('the option `refundWhen` is called once, even if the client has gone', async () => {
    const refundWhen = vi.fn(() => true);
    const limit = memory().rateLimit({ ...THREE, key: () => 'ann', refundWhen });
    const arrived = new EventEmitter();
    const base = await serve(
      express()
        .use(limit)
        .get('/', (_req, res) => void arrived.emit('request', res)),
    );
    const client = get(base).on('error', () => undefined);
    const [res] = await once(arrived, 'request');
    expect((await limit.limiter.peek('ann')).used).toBe(1);
    client.destroy();
    await once(res, 'close');
    await until('the refund is done', async () => (await limit.limiter.peek('ann')).used === 0);
    res.end('too late');
    expect(refundWhen).toHaveBeenCalledTimes(1);
  });

  it('a refusal of a cost above the limit has no Retry-After', async () => {
    const app = express()
      .use(memory().rateLimit({ ...THREE, cost: 4 }))
      .get('/', ok);
    const refused = await request(app).get('/').expect(429);
    expect(refused.headers['retry-after']).toBeUndefined();
  });
});

async function requestOf() {
  const arrived = new EventEmitter();
  const base = await serve((req, res) => void arrived.emit('request', req, res));
  get(base).on('error', () => undefined);
  const [req, res] = (await once(arrived, 'request')) as [IncomingMessage, ServerResponse];
  return { req, res };
}
