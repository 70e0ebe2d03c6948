import { RESP_TYPES } from 'redis';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { Keys } from '../../src/base/keys.ts';
import type { PolicyNumbers } from '../../src/rate-limit/operations/algorithm.ts';
import { slidingWindow } from '../../src/rate-limit/operations/sliding-window.ts';
import { limitTake, type TakeReply } from '../../src/rate-limit/operations/take.ts';
import { tokenBucket } from '../../src/rate-limit/operations/token-bucket.ts';
import { type BothEngines, startBothEngines } from '../support/both-engines.ts';
import { describeWithServers } from '../support/context.ts';
import { startRedis } from '../support/servers.ts';

const SPAN = 100_000;

const policies = [
  ['a sliding window', slidingWindow],
  ['a token bucket', tokenBucket],
] as const;

const numbers: PolicyNumbers = [5, SPAN, 1];

let both: BothEngines;
let keys: Keys;

beforeAll(async () => {
  both = await startBothEngines();
  keys = new Keys(both.prefix);
});

afterAll(async () => {
  await both.stop();
});

/** The reply of both engines, which must be equal. */
async function take(
  engines: Pick<BothEngines, 'memory' | 'redis'>,
  key: string,
  algorithm: (typeof policies)[number][1],
  cost: number,
): Promise<TakeReply | undefined> {
  const args = { mode: 'take', costs: [cost], policies: [{ algorithm, numbers }] } as const;
  const [memory] = await engines.memory.run(limitTake(args.policies), [key], args);
  const [redis] = await engines.redis.run(limitTake(args.policies), [key], args);
  expect(redis).toEqual(memory);
  return redis;
}

describe.each(policies)('%s with an unexpected stored value', (name, algorithm) => {
  it('a value of another Redis type counts as absent, is reported as corrupt, and is replaced', async () => {
    const key = keys.rate('wrong type', name);
    await both.client.rPush(key, 'a list');
    await both.client.pExpire(key, SPAN);
    const args = { mode: 'take', costs: [2], policies: [{ algorithm, numbers }] } as const;
    const [first] = await both.redis.run(limitTake(args.policies), [key], args);
    expect(first).toMatchObject({ allowed: true, used: 2, found: 'corrupt' });
    const [second] = await both.redis.run(limitTake(args.policies), [key], args);
    expect(second).toMatchObject({ allowed: true, used: 4, found: 'fine' });
  });

  it('a truncated value never allows more than the limit, and the next charge replaces it with a valid value', async () => {
    const whole = keys.rate('whole', name);
    for (let times = 0; times < 3; times++) {
      await take(both, whole, algorithm, 1);
      both.clock.time += 1;
    }
    const value = both.keyspace.get(whole) ?? Buffer.alloc(0);
    expect(value.length).toBeGreaterThan(10);
    for (let length = 0; length < value.length; length++) {
      const key = keys.rate(`cut at ${length}`, name);
      const cut = value.subarray(0, length);
      both.keyspace.set(key, cut, SPAN);
      await both.client.set(key, cut, { PX: SPAN });
      const reply = await take(both, key, algorithm, 1);
      expect(reply?.used).toBeLessThanOrEqual(5);
      expect(await take(both, key, algorithm, 6)).toMatchObject({ allowed: false, found: 'fine' });
      both.clock.time += 5 * SPAN;
      expect(await take(both, key, algorithm, 5)).toMatchObject({ allowed: true, used: 5, found: 'fine' });
      both.clock.time -= 5 * SPAN;
    }
  });

  it('a value of a newer format is left untouched, and no other policy is charged', async () => {
    const key = keys.rate('newer', name);
    const beside = keys.rate('newer', 'beside');
    const newer = Buffer.from(algorithm === slidingWindow ? 'W\x02later' : '3:later', 'latin1');
    both.keyspace.set(key, newer, SPAN);
    await both.client.set(key, newer, { PX: SPAN });
    const args = {
      mode: 'take',
      costs: [1],
      policies: [
        { algorithm: tokenBucket, numbers },
        { algorithm, numbers },
      ],
    } as const;
    for (const engine of [both.memory, both.redis]) {
      await expect(engine.run(limitTake(args.policies), [beside, key], args)).rejects.toMatchObject({
        code: 'ERR_REDIS_KIT_NEWER_FORMAT',
      });
    }
    const bytes = both.client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
    expect(await bytes.get(key)).toEqual(newer);
    expect(both.keyspace.get(key)).toEqual(newer);
    expect(await both.client.exists(beside)).toBe(0);
    expect(both.keyspace.get(beside)).toBeUndefined();
  });
});

describeWithServers('a server that loses its scripts', () => {
  it.each(policies)('the count of a limiter continues after a SCRIPT FLUSH (%s)', async (name, algorithm) => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const own = await startBothEngines(server.url);
    onTestFinished(() => own.stop());
    const key = new Keys(own.prefix).rate('flush', name);
    for (let used = 1; used <= 5; used++) {
      expect(await take(own, key, algorithm, 1)).toMatchObject({ allowed: true, used });
      await own.client.scriptFlush();
    }
    expect(await take(own, key, algorithm, 1)).toMatchObject({ allowed: false, used: 5 });
  });
});
