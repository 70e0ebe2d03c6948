import express from 'express';
import request from 'supertest';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Decision, Limiter, RateLimitOptions } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { startRedis } from '../support/servers.ts';
import { onEveryStore } from '../support/stores.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';
import { countCommands } from '../support/wire.ts';

const WINDOW = { algorithm: 'sliding-window', limit: 10, window: '1h', name: 'window' } as const;
const BUCKET = {
  algorithm: 'token-bucket',
  capacity: 10,
  refill: { tokens: 10, per: '1h' },
  name: 'bucket',
} as const;

const usedBy = async (limiter: Limiter, id = 'ann') => (await limiter.peek(id)).used;

onEveryStore('a settled decision', (kitOf) => {
  for (const policy of [WINDOW, BUCKET]) {
    it(`a cost that was estimated too high is corrected down (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      const decision = await limiter.consume('ann', { cost: 8 });
      await limiter.settle(decision, 3);
      expect(await usedBy(limiter)).toBe(3);
    });

    it(`a cost that was estimated too low is corrected up, also beyond the limit (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      const decision = await limiter.consume('ann', { cost: 2 });
      await limiter.settle(decision, 14);
      expect(await limiter.peek('ann')).toMatchObject({ allowed: false, used: 14, remaining: 0 });
    });

    it(`a decision is settled or refunded at most once, whatever comes first (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      const settled = await limiter.consume('ann', { cost: 2 });
      await Promise.all([limiter.settle(settled, 5), limiter.settle(settled, 1), limiter.refund(settled)]);
      await limiter.settle(settled, 9);
      expect(await usedBy(limiter)).toBe(5);
      const refunded = await limiter.consume('ann', { cost: 2 });
      await limiter.refund(refunded);
      await limiter.settle(refunded, 9);
      expect(await usedBy(limiter)).toBe(5);
    });

    it(`an equal actual cost changes nothing and ends the corrections (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      const decision = await limiter.consume('ann', { cost: 4 });
      await limiter.settle(decision, 4);
      await limiter.refund(decision);
      expect(await usedBy(limiter)).toBe(4);
    });

    it(`a decision without an estimate is charged when it is settled (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      const decision = await limiter.consume('ann', { cost: 0 });
      await limiter.settle(decision, 6);
      expect(await usedBy(limiter)).toBe(6);
    });

    it(`a refused decision and a peek cannot be settled (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      await limiter.consume('ann', { cost: 9 });
      await limiter.settle(await limiter.consume('ann', { cost: 2 }), 50);
      await limiter.settle(await limiter.peek('ann'), 50);
      expect(await usedBy(limiter)).toBe(9);
    });

    it(`an actual cost out of range rejects, and the decision can still be settled (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      const decision = await limiter.consume('ann', { cost: 4 });
      for (const actual of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 1_000_000_001, '3', undefined]) {
        await expect(limiter.settle(decision, actual as number)).rejects.toThrow(
          /the actual cost for '\w+' is .*; it must be a whole number from 0 to 1000000000/,
        );
      }
      await limiter.settle(decision, 1);
      expect(await usedBy(limiter)).toBe(1);
    });
  }

  it('a decision of several policies and identities is settled under all of them', async () => {
    const middleware = kitOf().rateLimit({
      policies: [WINDOW, BUCKET, { ...WINDOW, name: 'team', key: (req) => String(req.headers.from) }],
      key: () => 'ann',
      cost: 4,
    });
    const decisions: Decision[] = [];
    const app = express().use(middleware, async (req, res) => {
      if (req.rateLimit !== undefined) decisions.push(req.rateLimit);
      await req.rateLimit?.settle(Number(req.headers.actual));
      res.end();
    });
    const used = async () => {
      await request(app).get('/').set({ from: 'team', actual: '4' }).expect(200);
      const { policies = [] } = decisions.at(-1) ?? {};
      return policies.map(({ name, used: units }) => [name, units - 4]);
    };
    await request(app).get('/').set({ from: 'team', actual: '1' }).expect(200);
    await request(app).get('/').set({ from: 'other', actual: '3' }).expect(200);
    expect(await used()).toEqual([
      ['window', 4],
      ['bucket', 4],
      ['team', 1],
    ]);
    await middleware.limiter.reset('ann');
    await middleware.limiter.reset('team');
    await request(app).get('/').set({ from: 'team', actual: '6' }).expect(200);
    expect(await used()).toEqual([
      ['window', 6],
      ['bucket', 6],
      ['team', 6],
    ]);
  });
});

describeOnBothEngines('a decision that is settled after its quota has come back', (url) => {
  for (const policy of [WINDOW, BUCKET]) {
    it(`units of an expired decision are neither refunded nor charged (${policy.algorithm})`, async () => {
      stopTime();
      const limiter = kitForTest({ url: url() }).limiter(policy);
      const [down, up, inTime] = [
        await limiter.consume('ann', { cost: 5 }),
        await limiter.consume('ann'),
        await limiter.consume('bob'),
      ];
      await passTime(3_600_000 - 1);
      await limiter.settle(inTime, 5);
      expect(await usedBy(limiter, 'bob')).toBe(policy === WINDOW ? 5 : 4);
      await passTime(1);
      await limiter.consume('ann', { cost: 3 });
      await limiter.settle(down, 0);
      await limiter.settle(up, 10);
      expect(await usedBy(limiter)).toBe(3);
    });
  }
});

describeOnBothEngines('a bucket that has refilled a part of an estimate', (url) => {
  it('the units of the estimate that were not used are refunded before those that were', async () => {
    stopTime();
    const limiter = kitForTest({ url: url() }).limiter(BUCKET);
    const decision = await limiter.consume('ann', { cost: 8 });
    await passTime(1_800_000);
    expect(await usedBy(limiter)).toBe(3);
    // The bucket has refilled 5 tokens, and so all 4 that were used.
    await limiter.settle(decision, 4);
    expect(await usedBy(limiter)).toBe(0);
  });
});

describe('req.rateLimit.settle', () => {
  const options = { ...WINDOW, key: () => 'ann', cost: 5 } satisfies RateLimitOptions;

  it('a stream that its client aborts is settled with the units that it used', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const middleware = kit.rateLimit(options);
    const app = express().use(middleware, (req, res) => {
      res.on('close', () => void req.rateLimit?.settle(2));
      res.write('the beginning of an endless stream');
    });
    const controller = new AbortController();
    const response = await fetch(await serve(app), { signal: controller.signal });
    expect(response.status).toBe(200);
    expect(await usedBy(middleware.limiter)).toBe(5);
    controller.abort();
    await until('the cost is corrected', async () => (await usedBy(middleware.limiter)) === 2);
  });

  it('`refundWhen` refunds nothing after the request was settled', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const middleware = kit.rateLimit({ ...options, refundWhen: () => true });
    const app = express().use(middleware, async (req, res) => {
      await req.rateLimit?.settle(7);
      res.end();
    });
    await send(await serve(app));
    await send(await serve(app));
    expect(await usedBy(middleware.limiter)).toBe(7);
  });

  it('the limiter of the middleware can refund or settle the decision of a request', async () => {
    const middleware = kitForTest({ url: 'memory:' }).rateLimit(options);
    const app = express().use(middleware, async (req, res) => {
      if (req.rateLimit !== undefined) await middleware.limiter.settle(req.rateLimit, 1);
      res.end();
    });
    await send(await serve(app));
    expect(await usedBy(middleware.limiter)).toBe(1);
  });
});

describeWithServers('the commands of a settled decision', () => {
  it('each correction costs one command per identity, and none if the cost was right', async () => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const kit = kitForTest({ url: server.url });
    await kit.ready();
    const policies = [WINDOW, BUCKET];
    const { limiter } = kit.rateLimit({ policies });
    await limiter.settle(await limiter.consume('bob', { cost: 2 }), 1);
    const decisions = [];
    for (let index = 0; index < 3; index++) decisions.push(await limiter.consume('ann', { cost: 2 }));
    const [down, up, equal] = decisions;
    const commandsOf = async (decision: Decision | undefined, actual: number) =>
      (await countCommands(server.url, () => decision && limiter.settle(decision, actual))).map(
        ([name, , keys]) => [name, keys],
      );
    expect(await commandsOf(down, 1)).toEqual([['EVALSHA', '2']]);
    expect(await commandsOf(up, 3)).toEqual([['EVALSHA', '2']]);
    expect(await commandsOf(equal, 2)).toEqual([]);
    expect(await commandsOf(up, 9)).toEqual([]);
  });

  it('a decision of the in-process fallback is settled in the fallback', async () => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const kit = kitForTest({ url: server.url, commandTimeout: '200ms' });
    await kit.ready();
    const limiter = kit.limiter(WINDOW);
    await limiter.consume('ann', { cost: 3 });
    await server.stop();
    const down = await limiter.consume('ann', { cost: 4 });
    const up = await limiter.consume('ann', { cost: 1 });
    expect([down.degraded, up.degraded]).toEqual([true, true]);
    await limiter.settle(down, 1);
    await limiter.settle(up, 3);
    expect(await limiter.peek('ann')).toMatchObject({ degraded: true, used: 4 });
  });

  it('a failed correction is reported, and the estimate stays charged', async () => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const kit = kitForTest({ url: server.url, commandTimeout: '200ms' });
    await kit.ready();
    const failures: unknown[] = [];
    kit.on('error', (failure) => failures.push(failure));
    const limiter = kit.limiter(WINDOW);
    const [up, down] = [await limiter.consume('ann'), await limiter.consume('ann', { cost: 2 })];
    await server.stop();
    await limiter.settle(up, 3);
    await limiter.settle(down, 1);
    expect(failures).toContainEqual(expect.objectContaining({ feature: 'rate' }));
  });
});
