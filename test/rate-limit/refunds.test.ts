import { afterAll, beforeAll, expect, it } from 'vitest';
import { Keys } from '../../src/base/keys.ts';
import type { Engine } from '../../src/engine/port.ts';
import type { PolicyArgs } from '../../src/rate-limit/operations/policies-script.ts';
import { limitRefund } from '../../src/rate-limit/operations/refund.ts';
import { slidingWindow } from '../../src/rate-limit/operations/sliding-window.ts';
import { limitTake } from '../../src/rate-limit/operations/take.ts';
import { tokenBucket } from '../../src/rate-limit/operations/token-bucket.ts';
import { type BothEngines, startBothEngines } from '../support/both-engines.ts';

let both: BothEngines;

beforeAll(async () => {
  both = await startBothEngines();
});

afterAll(() => both.stop());

let runs = 0;

/** A policy on both engines, whose replies and stored bytes must be equal. */
function limitOf(policy: PolicyArgs) {
  const key = new Keys(`${both.prefix}:${runs++}`).rate('id', 'p');
  const engines: readonly Engine[] = [both.memory, both.redis];
  const size = async () => {
    const bytes = both.keyspace.get(key);
    expect(await both.client.withTypeMapping({ 36: Buffer }).get(key)).toEqual(bytes ?? null);
    return bytes?.length ?? 0;
  };
  const take = async (mode: 'take' | 'peek' = 'take') => {
    const args = { mode, costs: [1], policies: [policy] };
    const [one, other] = await Promise.all(
      engines.map((engine) => engine.run(limitTake(args.policies), [key], args)),
    );
    expect(one).toEqual(other);
    return (one?.[0] ?? { stamp: 0, position: 0, used: -1 }) as {
      stamp: number;
      position: number;
      used: number;
    };
  };
  const refund = async ({ stamp, position }: { stamp: number; position: number }) => {
    const args = { policies: [{ ...policy, stamp, position, units: 1 }] };
    await Promise.all(engines.map((engine) => engine.run(limitRefund(args.policies), [key], args)));
  };
  return { take, refund, size, used: async () => (await take('peek')).used };
}

const HOUR = 3_600_000;

it('the stored value of a sliding window stays short when each new unit is refunded', async () => {
  const { take, refund, size, used } = limitOf({ algorithm: slidingWindow, numbers: [1_000, HOUR, 1] });
  await take();
  for (let turn = 0; turn < 1_000; turn++) {
    both.clock.time += 1;
    await refund(await take());
  }
  expect(await used()).toBe(1);
  expect(await size()).toBeLessThan(100);
});

it('a sliding window with many entries keeps only the units that are not refunded, in any order of refunds', async () => {
  const { take, refund, size, used } = limitOf({ algorithm: slidingWindow, numbers: [1_000, HOUR, 1] });
  const charges = [];
  for (let turn = 0; turn < 400; turn++) {
    both.clock.time += 1;
    charges.push(await take());
  }
  const long = await size();
  const refunded = charges
    .filter((_, index) => index % 4 !== 0)
    .toSorted((a, b) => (a.stamp % 7) - (b.stamp % 7));
  for (const charge of refunded) await refund(charge);
  for (const charge of refunded.slice(0, 20)) await refund(charge);
  expect(await used()).toBe(100);
  both.clock.time += 1;
  await take();
  expect(await used()).toBe(101);
  expect(await size()).toBeLessThan(long / 2);
});

it('a token bucket refunds exactly the tokens that are still owed, in any order of refunds', async () => {
  const { take, refund, used } = limitOf({ algorithm: tokenBucket, numbers: [1_000, 1_000 * HOUR, 1] });
  const charges = [];
  for (let turn = 0; turn < 400; turn++) charges.push(await take());
  const refunded = charges.filter((_, index) => index % 2 === 0).toReversed();
  for (const [index, charge] of refunded.entries()) {
    await refund(charge);
    expect(await used()).toBe(400 - index - 1);
  }
  for (const charge of charges) await refund(charge);
  expect(await used()).toBe(0);
});

it('a token bucket with more refunds than it can store returns no more than was taken, and its value stays short', async () => {
  const { take, refund, size, used } = limitOf({ algorithm: tokenBucket, numbers: [1_000, 1_000 * HOUR, 1] });
  const charges = [];
  for (let turn = 0; turn < 700; turn++) charges.push(await take());
  const refunded = charges.filter((_, index) => index % 2 === 0);
  for (const charge of refunded.slice(0, 300)) await refund(charge);
  // 256 refunds are stored; the others removed the last charges, whose own refunds return nothing any more.
  expect(await used()).toBe(400);
  for (const charge of refunded.slice(300)) await refund(charge);
  expect(await used()).toBeGreaterThanOrEqual(350);
  expect(await used()).toBeLessThanOrEqual(400);
  expect(await size()).toBeLessThan(12_000);
  for (const charge of charges) await refund(charge);
  expect(await used()).toBe(0);
  expect((await take()).used).toBe(1);
});
