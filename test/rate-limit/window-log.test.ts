import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Charge, PolicyNumbers } from '../../src/rate-limit/operations/algorithm.ts';
import { CHUNK, ENTRY, HEADER } from '../../src/rate-limit/operations/packed-log.ts';
import { limitRefund } from '../../src/rate-limit/operations/refund.ts';
import { slidingWindow } from '../../src/rate-limit/operations/sliding-window.ts';
import { limitTake, type TakeReply } from '../../src/rate-limit/operations/take.ts';
import { S, World } from '../engine/world.ts';
import { type BothEngines, startBothEngines } from '../support/both-engines.ts';

const SPAN = 10_000 * S;

let both: BothEngines;

beforeAll(async () => {
  both = await startBothEngines();
});

afterAll(() => both.stop());

/** One sliding window on both engines, of which replies and bytes are compared after each call. */
class Window {
  readonly key: string;
  readonly #world = new World(both);
  readonly #numbers: PolicyNumbers;

  constructor(limit: number, resolution = 1) {
    this.key = this.#world.keys.rate('id', 'p');
    this.#numbers = [limit, SPAN, resolution];
    both.clock.time = 1_700_000_000_000;
  }

  async take(cost = 1, mode: 'take' | 'peek' = 'take'): Promise<TakeReply> {
    const args = { mode, cost, policies: [{ algorithm: slidingWindow, numbers: this.#numbers }] };
    const [reply] = await this.#world.compare(limitTake, [this.key], args);
    return reply as TakeReply;
  }

  async refund({ stamp, position }: Charge, units = 1): Promise<void> {
    const policy = { algorithm: slidingWindow, numbers: this.#numbers };
    await this.#world.compare(limitRefund, [this.key], { policies: [{ ...policy, stamp, position, units }] });
  }

  /** So many grants, each given back in its own millisecond. Only what they leave behind is compared. */
  async passThrough(times: number): Promise<void> {
    const policy = { algorithm: slidingWindow, numbers: this.#numbers };
    for (let left = times; left > 0; left -= 500) {
      const calls = Array.from({ length: Math.min(left, 500) }, () => {
        both.clock.time += 1;
        // A grant stands at the time of the clock here, so its refund need not wait for the reply.
        const given = { policies: [{ ...policy, stamp: both.clock.time, position: 0, units: 1 }] };
        return [both.memory, both.redis].flatMap((engine): Promise<unknown>[] => [
          engine.run(limitTake, [this.key], { mode: 'take', cost: 1, policies: [policy] }),
          engine.run(limitRefund, [this.key], given),
        ]);
      });
      await Promise.all(calls.flat());
    }
    await this.#world.compareStored([this.key]);
  }

  /** What both keep: how many entries count, for how many units, in how many bytes. */
  stored() {
    const value = both.keyspace.get(this.key) ?? Buffer.alloc(HEADER);
    const [head, count, used] = [2, 6, 10].map((at) => value.readUInt32BE(at)) as [number, number, number];
    return { entries: count - head, used, bytes: value.length };
  }

  memory(): Promise<number | null> {
    return both.client.memoryUsage(this.key);
  }
}

describe('a log of which units are given back', () => {
  it.each([0, CHUNK, 3 * CHUNK])(
    'is as short after 1,500 grants that were given back as it was with the %d that were not',
    async (kept) => {
      const window = new Window(1_000);
      for (let turn = 0; turn < kept; turn++) {
        both.clock.time += 1;
        await window.take();
      }
      const before = window.stored();
      await window.passThrough(1_500);
      expect(window.stored()).toMatchObject({ entries: kept, used: kept });
      expect((await window.take(1, 'peek')).used).toBe(kept);
      // One entry more and an eighth of room; Redis may hold twice as much for a string that has grown.
      const most = before.bytes + ENTRY * (1 + Math.ceil((kept + 1) / 8));
      expect(window.stored().bytes).toBeLessThanOrEqual(most);
      expect(await window.memory()).toBeLessThanOrEqual(2 * most + 100);
    },
  );

  it('never holds more entries than units that count, nor than moments of its window', async () => {
    const step = fc.record({
      ms: fc.nat(300 * S),
      cost: fc.nat(3),
      back: fc.option(fc.nat(40), { freq: 2 }),
    });
    const resolution = 1_000 * S;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async (run) => {
        const window = new Window(30, resolution);
        const grants: { charge: Charge; units: number }[] = [];
        for (const { ms, cost, back } of run) {
          both.clock.time += ms;
          const charge = await window.take(cost);
          if (charge.stamp > 0) grants.push({ charge, units: cost });
          const [given] = back === null ? [] : grants.splice(back % Math.max(1, grants.length), 1);
          if (given !== undefined) await window.refund(given.charge, given.units);
          const { entries, used } = window.stored();
          expect(entries).toBeLessThanOrEqual(Math.min(used, SPAN / resolution + 1));
        }
      }),
      { numRuns: 40 },
    );
  });

  it('holds no less than nothing, even where its sum says less than its entries', async () => {
    const window = new Window(10);
    const grant = await window.take(5);
    const value = Buffer.from(both.keyspace.get(window.key) ?? '');
    value.writeUInt32BE(2, 10);
    both.keyspace.set(window.key, value, SPAN);
    await both.client.set(window.key, value, { PX: SPAN });
    await window.refund(grant, 5);
    expect(await window.take(10)).toMatchObject({ allowed: true, used: 10 });
  });
});

describe('a clock that goes back stands still at the time that was written down', () => {
  it('by a refused try that found units outside the window', async () => {
    const window = new Window(1);
    const { stamp } = await window.take();
    both.clock.time += SPAN;
    await window.take(2);
    both.clock.time -= SPAN - 1;
    // At its own time it would be the second unit of one window.
    expect(await window.take()).toMatchObject({ allowed: true, stamp: stamp + SPAN });
  });

  it('by a refund that found units outside the window', async () => {
    const window = new Window(2);
    const { stamp } = await window.take();
    both.clock.time += SPAN / 2;
    const second = await window.take();
    both.clock.time += SPAN / 2;
    await window.refund(second);
    both.clock.time -= SPAN / 4;
    expect(await window.take(2)).toMatchObject({ allowed: true, stamp: stamp + SPAN });
  });
});
