import { expect, it } from 'vitest';
import { ConfigError, type Decision } from '../../src/index.ts';
import { TestClock } from '../support/both-engines.ts';
import { kitForTest } from '../support/kits.ts';
import { onEveryStore } from '../support/stores.ts';

const WINDOW = { algorithm: 'sliding-window', limit: 3, window: '1h' } as const;
const BUCKET = { algorithm: 'token-bucket', capacity: 3, refill: { tokens: 1, per: '1h' } } as const;

onEveryStore('a limiter', (kitOf) => {
  for (const policy of [WINDOW, BUCKET]) {
    it(`a limiter allows as many units as its limit and not one more (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      const decisions = await Promise.all(Array.from({ length: 20 }, () => limiter.consume('ann')));
      expect(decisions.filter((decision) => decision.allowed)).toHaveLength(3);
      const refused = decisions.find((decision) => !decision.allowed);
      expect(refused).toMatchObject({
        allowed: false,
        degraded: false,
        cost: 1,
        limit: 3,
        used: 3,
        remaining: 0,
      });
      expect(refused?.retryAfterMs).toBeGreaterThan(3_000_000);
      expect(refused?.resetMs).toBeGreaterThan(3_000_000);
      expect(refused?.policies).toEqual([
        {
          name: expect.any(String),
          limit: 3,
          used: 3,
          remaining: 0,
          resetMs: refused?.resetMs,
          allowed: false,
        },
      ]);
    });

    it(`a limiter counts each id separately (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      for (const id of ['ann', 'bob', '', '*', '{', '}', 'x'.repeat(1_000), '\ud800', 'ä\0:']) {
        expect(await limiter.consume(id, { cost: 3 })).toMatchObject({
          allowed: true,
          used: 3,
          remaining: 0,
        });
        expect(await limiter.consume(id)).toMatchObject({ allowed: false });
      }
    });

    it(`a refused cost is not charged (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      await limiter.consume('ann', { cost: 2 });
      expect(await limiter.consume('ann', { cost: 2 })).toMatchObject({
        allowed: false,
        used: 2,
        remaining: 1,
      });
      expect(await limiter.consume('ann', { cost: 1 })).toMatchObject({ allowed: true, used: 3 });
    });

    it(`the retryAfterMs of a cost above the limit is null (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      expect(await limiter.consume('ann', { cost: 4 })).toMatchObject({
        allowed: false,
        used: 0,
        retryAfterMs: null,
      });
    });

    it(`a peek and a cost of 0 take no unit (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      expect(await limiter.consume('ann', { cost: 0 })).toMatchObject({ allowed: true, used: 0, resetMs: 0 });
      expect(await limiter.peek('ann')).toMatchObject({ allowed: true, used: 0, remaining: 3, cost: 0 });
      await limiter.consume('ann', { cost: 3 });
      expect(await limiter.peek('ann')).toMatchObject({ allowed: false, used: 3, remaining: 0 });
      expect(await limiter.consume('ann', { cost: 0 })).toMatchObject({ allowed: true, used: 3 });
    });

    it(`a decision is refunded at most once (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      const first = await limiter.consume('ann', { cost: 2 });
      await limiter.consume('ann');
      await Promise.all([limiter.refund(first), limiter.refund(first)]);
      await limiter.refund(first);
      expect(await limiter.peek('ann')).toMatchObject({ used: 1, remaining: 2 });
    });

    it(`a refund of a refusal or of an unknown decision returns no unit (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      await limiter.consume('ann', { cost: 3 });
      const refused = await limiter.consume('ann');
      await limiter.refund(refused);
      await limiter.refund({ ...refused });
      expect(await limiter.peek('ann')).toMatchObject({ used: 3 });
    });

    it(`a penalty may exceed the limit, and its decision has the remaining quota (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      expect(await limiter.penalize('ann', 2)).toMatchObject({
        allowed: true,
        used: 2,
        remaining: 1,
        retryAfterMs: null,
      });
      const punished = await limiter.penalize('ann', 4);
      expect(punished).toMatchObject({ allowed: false, used: 6, remaining: 0 });
      expect(punished.retryAfterMs).toBeGreaterThan(0);
    });

    it(`a penalty can be refunded (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      const penalty = await limiter.penalize('ann', 5);
      expect(penalty).toMatchObject({ allowed: false, policies: [{ allowed: false }] });
      expect(await limiter.peek('ann')).toMatchObject({ allowed: false, used: 5 });
      await limiter.refund(penalty);
      expect(await limiter.peek('ann')).toMatchObject({ used: 0 });
    });

    it(`a reset deletes the count of the id (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      await limiter.consume('ann', { cost: 3 });
      await limiter.reset('ann');
      expect(await limiter.consume('ann', { cost: 3 })).toMatchObject({ allowed: true });
    });

    it(`a limit given in a call replaces the limit of the policy (${policy.algorithm})`, async () => {
      const limiter = kitOf().limiter(policy);
      expect(await limiter.consume('ann', { cost: 5, limit: 10 })).toMatchObject({
        allowed: true,
        limit: 10,
        used: 5,
      });
      expect(await limiter.consume('ann')).toMatchObject({ allowed: false, limit: 3, used: 5, remaining: 0 });
    });
  }

  it('a call with an invalid id, cost or limit rejects with an error that describes the value', async () => {
    const limiter = kitOf().limiter(WINDOW);
    await expect(limiter.consume(undefined as unknown as string)).rejects.toThrow('id is undefined');
    await expect(limiter.consume({} as unknown as string)).rejects.toThrow('id is an object');
    for (const cost of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '1' as unknown as number]) {
      await expect(limiter.consume('ann', { cost })).rejects.toThrow('cost');
    }
    for (const limit of [-1, 1.5, '9' as unknown as number]) {
      await expect(limiter.consume('ann', { limit })).rejects.toThrow(ConfigError);
      await expect(limiter.peek('ann', { limit })).rejects.toThrow('limit');
    }
    await expect(limiter.consume('ann', 5 as never)).rejects.toThrow('options must be an object');
    await expect(limiter.consume('ann', { costs: 5 } as never)).rejects.toThrow('did you mean `cost`?');
  });

  it('a call other than `reset` needs `limit` when the limit is a function of the request', async () => {
    const { limiter } = kitOf().rateLimit({ ...WINDOW, name: 'by-plan', limit: () => 5 });
    for (const call of [
      () => limiter.consume('ann'),
      () => limiter.peek('ann'),
      () => limiter.penalize('ann', 1),
    ]) {
      await expect(call()).rejects.toThrow(/'by-plan' is a function of the request.*limit: 100/);
    }
    expect(await limiter.penalize('ann', 1, { limit: 2 })).toMatchObject({ allowed: true, used: 1 });
    expect(await limiter.peek('ann', { limit: 1 })).toMatchObject({ allowed: false, used: 1 });
    await limiter.reset('ann');
    expect(await limiter.peek('ann', { limit: 1 })).toMatchObject({ allowed: true, used: 0 });
  });

  it('a call with `limit` rejects for a limiter of several policies', async () => {
    const policies = [WINDOW, { ...WINDOW, name: 'day', window: '1d' }] as const;
    const { limiter } = kitOf().rateLimit({ policies });
    await expect(limiter.consume('ann', { limit: 9 })).rejects.toThrow('of several policies');
  });

  it('the decision of a penalty has the longest wait of several policies', async () => {
    const policies = [
      { ...WINDOW, name: 'hour' },
      { ...WINDOW, name: 'day', window: '1d', limit: 4 },
    ] as const;
    const { limiter } = kitOf().rateLimit({ policies });
    const hour = await limiter.penalize('ann', 3);
    expect(hour.policies.map(({ name, allowed }) => [name, allowed])).toEqual([
      ['hour', false],
      ['day', true],
    ]);
    expect(hour).toMatchObject({ allowed: false });
    expect(hour.retryAfterMs).toBeLessThanOrEqual(3_600_000);
    const day = await limiter.penalize('ann', 3);
    expect(day.retryAfterMs).toBeGreaterThan(3_600_000);
  });

  it('a limiter name is unique per namespace, and a rejected call claims no name', () => {
    const kit = kitOf();
    kit.limiter(WINDOW);
    expect(() => kit.limiter(WINDOW)).toThrow(/'sliding-window-3-1h' exists already.*`name`/);
    kit.limiter({ ...WINDOW, name: 'other' });
    kit.namespace('tenant').limiter(WINDOW);
    expect(() => kit.rateLimit(WINDOW)).toThrow('exists already');
    const policies = [{ ...WINDOW, name: 'fresh' }, WINDOW];
    expect(() => kit.rateLimit({ policies })).toThrow(`'sliding-window-3-1h' exists already`);
    kit.limiter({ ...WINDOW, name: 'fresh' });
  });
});

it('a limiter of a namespace counts separately from the same limiter of the kit', async () => {
  const kit = kitForTest({ url: 'memory:' });
  const outer = kit.limiter(WINDOW);
  const inner = kit.namespace('tenant').limiter(WINDOW);
  await outer.consume('ann', { cost: 3 });
  expect(await inner.consume('ann')).toMatchObject({ allowed: true, used: 1 });
});

it('a unit of a sliding window comes back exactly a window after it was taken', async () => {
  const clock = new TestClock();
  const limiter = kitForTest({ url: 'memory:', clock }).limiter({
    algorithm: 'sliding-window',
    limit: 2,
    window: '1s',
  });
  await limiter.consume('ann');
  clock.time += 400;
  await limiter.consume('ann');
  clock.time += 599;
  expect(await limiter.consume('ann')).toMatchObject({ allowed: false, retryAfterMs: 1 });
  clock.time += 1;
  expect(await limiter.consume('ann')).toMatchObject({ allowed: true });
  expect(await limiter.consume('ann')).toMatchObject({ allowed: false, retryAfterMs: 400 });
});

it('a token bucket refills continuously and reports whole numbers of tokens', async () => {
  const clock = new TestClock();
  const limiter = kitForTest({ url: 'memory:', clock }).limiter({
    algorithm: 'token-bucket',
    capacity: 2,
    refill: { tokens: 3, per: '1s' },
  });
  await limiter.consume('ann', { cost: 2 });
  expect(await limiter.consume('ann')).toMatchObject({ allowed: false, retryAfterMs: 334 });
  clock.time += 333;
  expect(await limiter.consume('ann')).toMatchObject({ allowed: false, retryAfterMs: 1 });
  clock.time += 1;
  expect(await limiter.consume('ann')).toMatchObject({ allowed: true, remaining: 0 });
});

it('refunds to a token bucket, in any order, return the tokens of each charge that are still owed', async () => {
  const clock = new TestClock();
  const kit = kitForTest({ url: 'memory:', clock });
  const bucket = { algorithm: 'token-bucket', capacity: 10, refill: { tokens: 1, per: '1s' } } as const;
  const limiter = kit.limiter(bucket);
  const [first, second] = [
    await limiter.consume('ann', { cost: 5 }),
    await limiter.consume('ann', { cost: 3 }),
  ];
  await limiter.refund(first);
  clock.time += 3_000;
  // The second charge is paid by now, since the first was refunded.
  expect(await limiter.consume('ann', { cost: 10 })).toMatchObject({ allowed: true, used: 10 });
  await limiter.refund(second);
  expect(await limiter.consume('ann')).toMatchObject({ allowed: false, used: 10 });

  const decisions = [];
  for (let take = 0; take < 10; take++) decisions.push(await limiter.consume('bob'));
  for (const nth of [9, 3, 4, 0, 8, 2, 6, 1, 7, 5]) await limiter.refund(decisions[nth] as Decision);
  expect(await limiter.peek('bob')).toMatchObject({ used: 0, resetMs: 0 });
});

it('an invalid policy is a ConfigError when the limiter is created', () => {
  const kit = kitForTest({ url: 'memory:' });
  const wrong: [object, RegExp][] = [
    [{}, /`algorithm` is undefined/],
    [{ algorithm: 'fixed-window' }, /`algorithm` is 'fixed-window'; .*'sliding-window', 'token-bucket'/],
    [{ ...WINDOW, limit: 0 }, /`limit` is 0/],
    [{ ...WINDOW, limit: Number.NaN }, /`limit` is NaN/],
    [{ ...WINDOW, limit: Number.POSITIVE_INFINITY }, /`limit` is Infinity/],
    [{ ...WINDOW, window: '-1s' }, /`window` is '-1s'/],
    [{ ...WINDOW, window: undefined }, /`window` is undefined; it is required/],
    [{ ...WINDOW, resolution: '2h' }, /`resolution` is '2h'; it must not be longer/],
    [{ ...WINDOW, capacity: 3 }, /`capacity` is 3; it belongs to the algorithm 'token-bucket'/],
    [{ ...WINDOW, name: 'a b' }, /`name` is 'a b'/],
    [{ ...WINDOW, widnow: 1 }, /did you mean `window`/],
    [{ ...WINDOW, limit: () => 3, name: 'x' }, /`limit` is a function/],
    [{ ...BUCKET, refill: undefined }, /`refill` is undefined; it is required/],
    [{ ...BUCKET, refill: { tokens: 0, per: '1s' } }, /`tokens` is 0/],
    [{ ...BUCKET, refill: { tokens: 1, per: '1s', every: 1 } }, /unknown option `every`/],
    [{ ...BUCKET, capacity: 1_000_000_000, refill: { tokens: 1, per: '365d' } }, /2\^51/],
  ];
  for (const [policy, message] of wrong)
    expect(() => kit.limiter(policy as never), JSON.stringify(policy)).toThrow(message);
});
