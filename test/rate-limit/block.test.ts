import express from 'express';
import request from 'supertest';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { KitOptions, RateLimitOptions, RedisKit } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { connectPlainClient } from '../support/plain-client.ts';
import { startRedis } from '../support/servers.ts';
import { onEveryStore } from '../support/stores.ts';
import { passTime, stopTime } from '../support/time.ts';
import { countCommands } from '../support/wire.ts';

const MINUTE = 60_000;

const WINDOW = { algorithm: 'sliding-window', limit: 2, window: '1m', name: 'window' } as const;
const BUCKET = {
  algorithm: 'token-bucket',
  capacity: 2,
  refill: { tokens: 2, per: '1m' },
  name: 'bucket',
} as const;
const BLOCK = { block: '10m', denyCache: false, key: () => 'ann' } as const;

/** A limiter whose identity `ann` has used its whole quota. */
async function exhausted(kit: RedisKit, options: RateLimitOptions) {
  const { limiter } = kit.rateLimit(options);
  for (let index = 0; index < 2; index++) await limiter.consume('ann');
  return limiter;
}

onEveryStore('a limiter with the option `block`', (kitOf) => {
  beforeEach(stopTime);

  for (const policy of [WINDOW, BUCKET]) {
    it(`an identity is refused after a refusal until the block ends (${policy.algorithm})`, async () => {
      const limiter = await exhausted(kitOf(), { ...policy, ...BLOCK });
      const first = {
        allowed: false,
        used: 2,
        remaining: 0,
        retryAfterMs: 10 * MINUTE,
        resetMs: 10 * MINUTE,
      };
      expect(await limiter.consume('ann')).toMatchObject(first);
      await passTime(9 * MINUTE);
      expect(await limiter.consume('ann')).toMatchObject({
        allowed: false,
        used: 0,
        remaining: 0,
        retryAfterMs: MINUTE,
        resetMs: MINUTE,
        policies: [{ name: policy.name, allowed: false, remaining: 0 }],
      });
      expect(await limiter.consume('bob')).toMatchObject({ allowed: true });
      await passTime(MINUTE - 1);
      expect(await limiter.consume('ann', { cost: 2 })).toMatchObject({ allowed: false, retryAfterMs: 1 });
      await passTime(1);
      expect(await limiter.consume('ann')).toMatchObject({ allowed: true, used: 1, retryAfterMs: null });
    });
  }

  it('a block that is shorter than the wait for the quota changes no wait', async () => {
    const limiter = await exhausted(kitOf(), { ...WINDOW, ...BLOCK, block: '1s' });
    expect(await limiter.consume('ann')).toMatchObject({ retryAfterMs: MINUTE });
    await passTime(1_000);
    expect(await limiter.consume('ann')).toMatchObject({ allowed: false, retryAfterMs: MINUTE - 1_000 });
  });

  it('a peek sees a block but starts none', async () => {
    const limiter = await exhausted(kitOf(), { ...WINDOW, ...BLOCK });
    expect(await limiter.peek('ann')).toMatchObject({ allowed: false, retryAfterMs: MINUTE });
    await limiter.consume('ann');
    expect(await limiter.peek('ann')).toMatchObject({ allowed: false, retryAfterMs: 10 * MINUTE });
    await passTime(5 * MINUTE);
    expect(await limiter.peek('ann')).toMatchObject({ allowed: false, used: 0, retryAfterMs: 5 * MINUTE });
  });

  it('a penalty starts no block, and its decision reports one', async () => {
    const limiter = await exhausted(kitOf(), { ...WINDOW, ...BLOCK });
    expect(await limiter.penalize('ann', 5)).toMatchObject({ allowed: false, retryAfterMs: MINUTE });
    expect(await limiter.penalize('ann', 0)).toMatchObject({ allowed: false, retryAfterMs: MINUTE });
    await limiter.consume('ann');
    await passTime(5 * MINUTE);
    expect(await limiter.penalize('ann', 1)).toMatchObject({
      allowed: false,
      used: 1,
      retryAfterMs: 5 * MINUTE,
    });
  });

  it('a refund does not end a block', async () => {
    const { limiter } = kitOf().rateLimit({ ...WINDOW, ...BLOCK });
    const decisions = [await limiter.consume('ann'), await limiter.consume('ann')];
    await limiter.consume('ann');
    for (const decision of decisions) await limiter.refund(decision);
    expect(await limiter.consume('ann')).toMatchObject({
      allowed: false,
      used: 0,
      retryAfterMs: 10 * MINUTE,
    });
  });

  it('a reset ends the block of the identity', async () => {
    const { limiter } = kitOf().rateLimit({ ...WINDOW, ...BLOCK, denyCache: {} });
    for (const id of ['ann', 'ann', 'ann', 'bob', 'bob', 'bob']) await limiter.consume(id);
    await limiter.reset('ann');
    expect(await limiter.consume('ann')).toMatchObject({ allowed: true, used: 1 });
    expect(await limiter.consume('bob')).toMatchObject({ allowed: false });
  });

  it('a cost that can never be allowed blocks, too', async () => {
    const { limiter } = kitOf().rateLimit({ ...WINDOW, ...BLOCK });
    expect(await limiter.consume('ann', { cost: 3 })).toMatchObject({ allowed: false, retryAfterMs: null });
    expect(await limiter.consume('ann')).toMatchObject({ allowed: false, retryAfterMs: 10 * MINUTE });
  });

  it('refused requests that count do not prolong the block, and must pause before it ends', async () => {
    const limiter = await exhausted(kitOf(), {
      ...WINDOW,
      ...BLOCK,
      denyCache: undefined,
      onDenied: 'count',
    });
    expect(await limiter.consume('ann')).toMatchObject({ allowed: false, retryAfterMs: 10 * MINUTE });
    await passTime(10 * MINUTE - 1);
    for (let index = 0; index < 2; index++) {
      expect(await limiter.consume('ann')).toMatchObject({ allowed: false, used: index + 1 });
    }
    await passTime(1);
    // The requests during the block have used the quota, so the next refusal starts another block.
    expect(await limiter.consume('ann')).toMatchObject({ allowed: false, retryAfterMs: 10 * MINUTE });
    await passTime(10 * MINUTE);
    expect(await limiter.consume('ann')).toMatchObject({ allowed: true });
  });

  it('the refusal of one policy blocks the identity under all of them', async () => {
    const long = { ...WINDOW, limit: 9, window: '1h', name: 'long' } as const;
    const limiter = await exhausted(kitOf(), { ...BLOCK, policies: [long, WINDOW] });
    const allowedBy = async () =>
      (await limiter.consume('ann')).policies.map(({ name, allowed }) => [name, allowed]);
    expect(await allowedBy()).toEqual([
      ['long', true],
      ['window', false],
    ]);
    await passTime(5 * MINUTE);
    expect(await allowedBy()).toEqual([
      ['long', false],
      ['window', false],
    ]);
    await passTime(5 * MINUTE);
    expect(await limiter.consume('ann')).toMatchObject({ allowed: true, used: 1 });
    expect(await limiter.peek('ann')).toMatchObject({ policies: [{ name: 'long', used: 3 }, { used: 1 }] });
  });

  it('a request is refused when one of its identities is blocked, and only the refusing identity is blocked', async () => {
    const limit = kitOf().rateLimit({
      ...BLOCK,
      key: (req) => String(req.headers.from),
      policies: [WINDOW, { ...WINDOW, limit: 9, name: 'team', key: (req) => String(req.headers.team) }],
    });
    const app = express().use(limit, (_req, res) => res.end());
    const send = (from: string, team: string) => request(app).get('/').set({ from, team });
    for (const status of [200, 200, 429]) await send('ann', 'red').expect(status);
    await passTime(5 * MINUTE);
    await send('ann', 'blue').expect(429);
    await send('bob', 'red').expect(200);
    await passTime(5 * MINUTE);
    await send('ann', 'red').expect(200);
  });

  it('a limit that is a function of the request is blocked by the refusal under any limit', async () => {
    const limit = kitOf().rateLimit({ ...WINDOW, ...BLOCK, limit: (req) => Number(req.headers.limit) });
    const app = express().use(limit, (_req, res) => res.end());
    const send = (most: string) => request(app).get('/').set({ limit: most });
    await send('1').expect(200);
    await send('1').expect(429);
    await send('100').expect(429);
    await limit.limiter.reset('ann');
    await send('100').expect(200);
  });
});

describe('kit.rateLimit with the option `block`', () => {
  beforeEach(stopTime);

  it('a blocked request is answered with the rest of the block as Retry-After', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const refused = eventsOf(kit, 'rate:refused');
    const app = express().use(kit.rateLimit({ ...WINDOW, ...BLOCK }), (_req, res) => res.end());
    for (const status of [200, 200, 429]) await request(app).get('/').expect(status);
    await passTime(4 * MINUTE);
    const answer = await request(app).get('/').expect(429).expect('retry-after', '360');
    expect(answer.headers.ratelimit).toBe('"window";r=0;t=360');
    expect(answer.body['violated-policies']).toEqual(['window']);
    expect(refused).toHaveLength(2);
  });

  it('a deny cache remembers a block with the rest of its time', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const limiter = await exhausted(kit, { ...WINDOW, ...BLOCK, denyCache: { maxAge: '1h' } });
    await limiter.consume('ann');
    await passTime(9 * MINUTE);
    expect(await limiter.consume('ann')).toMatchObject({ allowed: false, retryAfterMs: MINUTE });
    await passTime(MINUTE);
    expect(await limiter.consume('ann')).toMatchObject({ allowed: true });
  });

  it('shadow mode blocks no identity', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const limit = kit.rateLimit({ ...WINDOW, ...BLOCK, shadow: true });
    const app = express().use(limit, (req, res) => res.json(req.rateLimit));
    for (let index = 0; index < 3; index++) await request(app).get('/').expect(200);
    expect((await request(app).get('/')).body).toMatchObject({ allowed: false, retryAfterMs: MINUTE });
    await passTime(MINUTE);
    expect((await request(app).get('/')).body).toMatchObject({ allowed: true });
  });
});

describeWithServers('a block in Redis', () => {
  async function serverWithKit(options: KitOptions = {}) {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const kit = kitForTest({ url: server.url, ...options });
    await kit.ready();
    return { server, kit };
  }

  it('each decision is one command, also the one that starts a block', async () => {
    const { server, kit } = await serverWithKit();
    const { limiter } = kit.rateLimit({ ...WINDOW, ...BLOCK });
    await limiter.consume('bob');
    const commands = await countCommands(server.url, async () => {
      for (let index = 0; index < 4; index++) await limiter.consume('ann');
    });
    expect(commands.map(([name, , keys]) => [name, keys])).toEqual(Array(4).fill(['EVALSHA', '2']));
  });

  it('a block holds for all processes', async () => {
    const { kit, server } = await serverWithKit({ prefix: testPrefix() });
    const other = kitForTest({ url: server.url, prefix: kit.prefix });
    const limiter = await exhausted(kit, { ...WINDOW, ...BLOCK });
    await limiter.consume('ann');
    await limiter.penalize('ann', 0);
    const { limiter: same } = other.rateLimit({ ...WINDOW, ...BLOCK, limit: 100 });
    expect(await same.consume('ann')).toMatchObject({ allowed: false });
  });

  it('an unreadable block counts as absent and is reported, and one of a newer version is left untouched', async () => {
    const { server, kit } = await serverWithKit({ prefix: testPrefix() });
    const client = await connectPlainClient(server.url);
    onTestFinished(() => client.destroy());
    const errors = eventsOf(kit, 'error');
    const limiter = await exhausted(kit, { ...WINDOW, ...BLOCK, onError: 'deny' });
    const key = `${kit.prefix}:rate:{ann}:window:block`;
    await client.hSet(key, 'no', 'block');
    expect(await limiter.consume('ann')).toMatchObject({ allowed: false, retryAfterMs: 600_000 });
    expect(errors).toMatchObject([{ error: { code: 'ERR_REDIS_KIT_CORRUPT' } }]);
    expect(await client.get(key)).toMatch(/^1:\d{13};$/);
    expect(await client.pTTL(key)).toBeGreaterThan(590_000);
    await client.set(key, '2:what;');
    await expect(limiter.consume('ann')).rejects.toThrow('newer version');
    expect(await client.get(key)).toBe('2:what;');
  });

  it('the in-process fallback blocks on its own while Redis is down', async () => {
    const { server, kit } = await serverWithKit({ commandTimeout: '200ms' });
    const { limiter } = kit.rateLimit({ ...WINDOW, ...BLOCK });
    await limiter.consume('ann');
    await server.stop();
    for (const allowed of [true, true, false, false]) {
      expect(await limiter.consume('ann')).toMatchObject({ allowed, degraded: true });
    }
    expect((await limiter.consume('ann')).retryAfterMs).toBeGreaterThan(590_000);
  });
});
