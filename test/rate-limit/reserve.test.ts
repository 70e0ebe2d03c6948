import express from 'express';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { Decision, KitOptions, Limiter, MiddlewarePolicy, RateLimitOptions } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { startRedis } from '../support/servers.ts';
import { onEveryStore } from '../support/stores.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';
import { countCommands } from '../support/wire.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

const WINDOW = { algorithm: 'sliding-window', limit: 25, window: '1m', name: 'window' } as const;
const BUCKET = {
  algorithm: 'token-bucket',
  capacity: 25,
  refill: { tokens: 5, per: '10s' },
  name: 'bucket',
} as const;
const RESERVE = { reserve: { units: 10, hold: '10s' }, denyCache: false } as const;

/** Consumes one unit after the other, and returns how many were allowed. */
async function allowedOf(limiter: Limiter, tries: number, id = 'api'): Promise<number> {
  let allowed = 0;
  for (let index = 0; index < tries; index++) if ((await limiter.consume(id)).allowed) allowed++;
  return allowed;
}

onEveryStore('a limiter with the option `reserve`', (kitOf) => {
  beforeEach(stopTime);

  const limiterOf = (options: object = {}, policy: MiddlewarePolicy = WINDOW) =>
    kitOf().rateLimit({ ...policy, ...RESERVE, ...options } as RateLimitOptions).limiter;

  it('exactly the limit is allowed, and the last batch has the units that are left', async () => {
    const limiter = limiterOf();
    const used = [];
    for (let index = 0; index < 26; index++) {
      const decision = await limiter.consume('api');
      expect(decision.allowed).toBe(index < 25);
      used.push(decision.used);
    }
    // A batch counts as used as a whole, so `remaining` is a lower bound.
    expect(used).toEqual([...Array(10).fill(10), ...Array(10).fill(20), ...Array(6).fill(25)]);
    expect(await limiter.consume('other')).toMatchObject({ allowed: true, used: 10, remaining: 15 });
  });

  it('a unit of a window comes back when its hold and the window have passed', async () => {
    const limiter = limiterOf();
    expect(await allowedOf(limiter, 30)).toBe(25);
    await passTime(MINUTE + 10 * SECOND - 1);
    expect(await limiter.consume('api')).toMatchObject({ allowed: false, retryAfterMs: 1 });
    await passTime(1);
    expect(await allowedOf(limiter, 30)).toBe(25);
  });

  it('the capacity of a bucket is lowered by its refill during the hold', async () => {
    const limiter = limiterOf({}, BUCKET);
    expect(await limiter.consume('api')).toMatchObject({ limit: 20, used: 10, remaining: 10 });
    expect(await allowedOf(limiter, 30)).toBe(19);
    await passTime(10 * SECOND);
    expect(await allowedOf(limiter, 30)).toBe(5);
  });

  it('a batch is used by requests of the hold only, and its other units are refunded', async () => {
    const limiter = limiterOf();
    expect(await allowedOf(limiter, 3)).toBe(3);
    expect(await limiter.peek('api')).toMatchObject({ used: 10 });
    await passTime(10 * SECOND + 2);
    await until('the units are refunded', async () => (await limiter.peek('api')).used === 3);
    expect(await limiter.consume('api')).toMatchObject({ allowed: true, used: 13 });
    expect(await allowedOf(limiter, 30)).toBe(21);
  });

  it('the units of a bucket that were not used are refunded, though others came back', async () => {
    const limiter = limiterOf({}, BUCKET);
    expect(await allowedOf(limiter, 3)).toBe(3);
    await passTime(10 * SECOND + 2);
    await until('the units are refunded', async () => (await limiter.peek('api')).used === 0);
  });

  it('a limit of one unit is exact', async () => {
    const limiter = limiterOf({ limit: 1, reserve: { units: 1 } });
    expect(await allowedOf(limiter, 5)).toBe(1);
    await passTime(MINUTE + SECOND);
    expect(await allowedOf(limiter, 5)).toBe(1);
  });

  it('a cost above the units of a batch is taken on its own', async () => {
    const limiter = limiterOf();
    await limiter.consume('api');
    expect(await limiter.consume('api', { cost: 12 })).toMatchObject({ allowed: true, used: 22, cost: 12 });
    expect(await limiter.consume('api', { cost: 12 })).toMatchObject({ allowed: false });
    expect(await allowedOf(limiter, 30)).toBe(12);
  });

  it('requests of several costs share a batch and are refused only if their own cost does not fit', async () => {
    const limiter = limiterOf({ limit: 10 });
    const decisions = await Promise.all([4, 4, 4, 2, 1, 0].map((cost) => limiter.consume('api', { cost })));
    expect(decisions.map(({ allowed }) => allowed)).toEqual([true, true, false, true, false, true]);
  });

  it('an invalid cost rejects', async () => {
    const limiter = limiterOf();
    await limiter.consume('api');
    await expect(limiter.consume('api', { cost: Number.NaN })).rejects.toThrow('the cost for');
    expect(await allowedOf(limiter, 30)).toBe(24);
  });

  it('a refund gives units back to the batch while it is open, and then to Redis', async () => {
    const limiter = limiterOf();
    const decisions: Decision[] = [];
    for (let index = 0; index < 25; index++) decisions.push(await limiter.consume('api'));
    expect(await limiter.consume('api')).toMatchObject({ allowed: false });
    const [first, second, third] = decisions.slice(-3);
    if (first === undefined || second === undefined || third === undefined) throw new Error('too few');
    await limiter.refund(first);
    await limiter.refund(first);
    expect(await limiter.peek('api')).toMatchObject({ used: 25 });
    expect(await allowedOf(limiter, 3)).toBe(1);
    await passTime(10 * SECOND + 2);
    await Promise.all([limiter.refund(second), limiter.settle(third, 0)]);
    await until('both units are refunded', async () => (await limiter.peek('api')).used === 23);
  });

  it('a decision is settled from the batch, and beyond the batch in Redis', async () => {
    const limiter = limiterOf();
    const [one, other] = [await limiter.consume('api'), await limiter.consume('api', { cost: 4 })];
    await limiter.settle(one, 4);
    await limiter.settle(other, 2);
    expect(await limiter.peek('api')).toMatchObject({ used: 10 });
    expect(await limiter.consume('api', { cost: 4 })).toMatchObject({ used: 10 });
    const last = await limiter.consume('api', { cost: 9 });
    expect(last).toMatchObject({ allowed: true, used: 20 });
    await limiter.settle(last, 20);
    expect((await limiter.peek('api')).used).toBeGreaterThan(25);
  });

  it('a reset ends the batch of the identity', async () => {
    const limiter = limiterOf();
    await limiter.consume('api');
    await limiter.reset('api');
    expect(await limiter.peek('api')).toMatchObject({ used: 0 });
    expect(await allowedOf(limiter, 30)).toBe(25);
  });

  it('a reset while a batch is taken ends this batch, too', async () => {
    const limiter = limiterOf();
    await limiter.peek('api');
    const [decision] = await Promise.all([limiter.consume('api'), limiter.reset('api')]);
    expect(decision).toMatchObject({ allowed: true });
    expect(await limiter.peek('api')).toMatchObject({ used: 0 });
    expect(await allowedOf(limiter, 30)).toBe(25);
  });

  it('a penalty is charged in Redis, and the batch can still be used', async () => {
    const limiter = limiterOf();
    await limiter.consume('api');
    expect(await limiter.penalize('api', 15)).toMatchObject({ allowed: false, used: 25 });
    expect(await allowedOf(limiter, 30)).toBe(9);
  });

  it('a request with another limit than that of the batch is decided on its own', async () => {
    const limit = kitOf().rateLimit({
      ...WINDOW,
      ...RESERVE,
      key: () => 'api',
      limit: (req) => Number(req.headers.limit),
    });
    const app = express().use(limit, (req, res) => res.json(req.rateLimit));
    const url = await serve(app);
    const used = async (most: string) =>
      JSON.parse((await send(url, { headers: { limit: most } })).text).used ?? 'refused';
    expect([await used('25'), await used('20'), await used('10'), await used('25')]).toEqual([
      10,
      11,
      'refused',
      10,
    ]);
  });
});

describeWithServers('batches in Redis', () => {
  async function serverWithKit(options: KitOptions = {}) {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const kit = kitForTest({ url: server.url, prefix: testPrefix(), ...options } as KitOptions);
    await kit.ready();
    return { server, kit };
  }

  const options = { ...WINDOW, ...RESERVE, limit: 1_000, reserve: { units: 100, hold: '1h' } } as const;

  it('requests one after the other cost one command per batch', async () => {
    const { server, kit } = await serverWithKit();
    const { limiter } = kit.rateLimit(options);
    await limiter.consume('bob');
    const commands = await countCommands(server.url, () => allowedOf(limiter, 250));
    expect(commands.map(([name]) => name)).toEqual(Array(3).fill('EVALSHA'));
  });

  it('requests that arrive while a batch is taken share its command', async () => {
    const { server, kit } = await serverWithKit();
    const { limiter } = kit.rateLimit(options);
    await limiter.consume('bob');
    const commands = await countCommands(server.url, async () => {
      const decisions = await Promise.all(Array.from({ length: 250 }, () => limiter.consume('api')));
      expect(decisions.every(({ allowed }) => allowed)).toBe(true);
    });
    // The first command is sent for the first request; the second one for all others.
    expect(commands.map(([name]) => name)).toEqual(Array(2).fill('EVALSHA'));
  });

  it('units that arrive after their hold are not used', async () => {
    const { kit } = await serverWithKit();
    stopTime();
    const { limiter } = kit.rateLimit({ ...WINDOW, ...RESERVE });
    const pending = limiter.consume('api');
    await passTime(10 * SECOND);
    // The batch is refunded, and the request is decided by a command of its own.
    expect(await pending).toMatchObject({ allowed: true, used: 1 });
  });

  it('closing the kit refunds the units that are left, also of a batch that is being taken', async () => {
    const { server, kit } = await serverWithKit();
    const other = kitForTest({ url: server.url, prefix: kit.prefix });
    const [{ limiter }, watcher] = [kit.rateLimit(options), other.rateLimit(options)];
    await allowedOf(limiter, 5);
    const last = limiter.consume('late');
    await kit.close();
    expect(await last).toMatchObject({ allowed: true });
    expect(await watcher.limiter.peek('api')).toMatchObject({ used: 5 });
    expect(await watcher.limiter.peek('late')).toMatchObject({ used: 1 });
  });

  it('a process that crashes keeps one batch, until its hold and the window have passed', async () => {
    const { server, kit } = await serverWithKit();
    const crashed = kitForTest({ url: server.url, prefix: kit.prefix });
    stopTime();
    const small = { ...WINDOW, ...RESERVE } as const;
    await allowedOf(crashed.rateLimit(small).limiter, 1);
    (crashed.client as { destroy(): void }).destroy();
    const { limiter } = kit.rateLimit(small);
    expect(await allowedOf(limiter, 30)).toBe(15);
    await passTime(MINUTE + 10 * SECOND);
    expect(await allowedOf(limiter, 30)).toBe(25);
  });

  it('the in-process fallback decides each request while Redis is down, and no batch outlives the hold', async () => {
    const { server, kit } = await serverWithKit({ commandTimeout: '200ms' });
    const errors = eventsOf(kit, 'error');
    const { limiter } = kit.rateLimit({ ...WINDOW, ...RESERVE, reserve: { units: 10, hold: '1h' } });
    await limiter.consume('api');
    await server.stop();
    const decisions = [];
    for (let index = 0; index < 12; index++) decisions.push(await limiter.consume('api'));
    expect(decisions.slice(0, 9).every(({ allowed, degraded }) => allowed && !degraded)).toBe(true);
    expect(decisions.slice(9)).toMatchObject([
      { allowed: true, degraded: true, used: 1 },
      { allowed: true, degraded: true, used: 2 },
      { allowed: true, degraded: true, used: 3 },
    ]);
    expect(errors.length).toBeGreaterThan(0);
  });
});

describe('a refusal of a limiter with the option `reserve`', () => {
  it('a remembered refusal costs no command until a refund', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const { limiter } = kit.rateLimit({ ...WINDOW, ...RESERVE, denyCache: { maxAge: '1h' } });
    const first = await limiter.consume('api');
    await allowedOf(limiter, 24);
    expect(await limiter.consume('api')).toMatchObject({ allowed: false });
    await limiter.refund(first);
    expect(await allowedOf(limiter, 3)).toBe(1);
  });
});
