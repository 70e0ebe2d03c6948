import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Charge, PolicyNumbers } from '../../src/rate-limit/operations/algorithm.ts';
import { limitRefund } from '../../src/rate-limit/operations/refund.ts';
import { slidingWindow } from '../../src/rate-limit/operations/sliding-window.ts';
import { limitTake, type TakeReply } from '../../src/rate-limit/operations/take.ts';
import { CHUNK, ENTRY, HEADER } from '../../src/rate-limit/operations/window-log.ts';
import { S, World } from '../engine/world.ts';
import { type BothEngines, startBothEngines } from '../support/both-engines.ts';

const SPAN = 10_000 * S;

let both: BothEngines;

beforeAll(async () => {
  both = await startBothEngines();
});

afterAll(() => both.stop());

/** One sliding window on both engines. Replies and stored bytes are compared after each call. */
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
    const args = { mode, costs: [cost], policies: [{ algorithm: slidingWindow, numbers: this.#numbers }] };
    const [reply] = await this.#world.compare(limitTake(args.policies), [this.key], args);
    return reply as TakeReply;
  }

  async refund({ stamp, position }: Charge, units = 1): Promise<void> {
    const policy = { algorithm: slidingWindow, numbers: this.#numbers };
    await this.#world.compare(limitRefund([policy]), [this.key], {
      policies: [{ ...policy, stamp, position, units }],
    });
  }

  /** Takes and refunds one unit this many times, each in its own millisecond. Only the stored bytes are compared. */
  async takeAndRefund(times: number): Promise<void> {
    const policy = { algorithm: slidingWindow, numbers: this.#numbers };
    for (let left = times; left > 0; left -= 500) {
      const calls = Array.from({ length: Math.min(left, 500) }, () => {
        both.clock.time += 1;
        // A charge is recorded at the time of the clock, so its refund need not wait for the reply.
        const refund = { policies: [{ ...policy, stamp: both.clock.time, position: 0, units: 1 }] };
        return [both.memory, both.redis].flatMap((engine): Promise<unknown>[] => [
          engine.run(limitTake([policy]), [this.key], { mode: 'take', costs: [1], policies: [policy] }),
          engine.run(limitRefund([policy]), [this.key], refund),
        ]);
      });
      await Promise.all(calls.flat());
    }
    await this.#world.compareStored([this.key]);
  }

  /** The stored log: the entries and units that count, and its size. */
  stored() {
    const value = both.keyspace.get(this.key) ?? Buffer.alloc(HEADER);
    const [head, count, used] = [2, 6, 10].map((at) => value.readUInt32BE(at)) as [number, number, number];
    return { entries: count - head, used, bytes: value.length };
  }

  memory(): Promise<number | null> {
    return both.client.memoryUsage(this.key);
  }
}

describe('the log of a sliding window after refunds', () => {
  it.each([0, CHUNK, 3 * CHUNK])(
    'the log of a sliding window with %d units is as short after 1,500 refunded requests as before them',
    async (kept) => {
      const window = new Window(1_000);
      for (let turn = 0; turn < kept; turn++) {
        both.clock.time += 1;
        await window.take();
      }
      const before = window.stored();
      await window.takeAndRefund(1_500);
      expect(window.stored()).toMatchObject({ entries: kept, used: kept });
      expect((await window.take(1, 'peek')).used).toBe(kept);
      // One more entry and an eighth of spare space; Redis may allocate twice as much for a string that has grown.
      const most = before.bytes + ENTRY * (1 + Math.ceil((kept + 1) / 8));
      expect(window.stored().bytes).toBeLessThanOrEqual(most);
      expect(await window.memory()).toBeLessThanOrEqual(2 * most + 100);
    },
  );

  it('a log has no more entries than counted units, and no more entries than its window has steps of `resolution`', async () => {
    const step = fc.record({
      ms: fc.nat(300 * S),
      cost: fc.nat(3),
      refundNth: fc.option(fc.nat(40), { freq: 2 }),
    });
    const resolution = 1_000 * S;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async (run) => {
        const window = new Window(30, resolution);
        const charges: { charge: Charge; units: number }[] = [];
        for (const { ms, cost, refundNth } of run) {
          both.clock.time += ms;
          const charge = await window.take(cost);
          if (charge.stamp > 0) charges.push({ charge, units: cost });
          const [refunded] =
            refundNth === null ? [] : charges.splice(refundNth % Math.max(1, charges.length), 1);
          if (refunded !== undefined) await window.refund(refunded.charge, refunded.units);
          const { entries, used } = window.stored();
          expect(entries).toBeLessThanOrEqual(Math.min(used, SPAN / resolution + 1));
        }
      }),
      { numRuns: 20 },
    );
  });

  it('a log whose stored sum is less than the units of its entries never counts below zero', async () => {
    const window = new Window(10);
    const charge = await window.take(5);
    const value = Buffer.from(both.keyspace.get(window.key) ?? '');
    value.writeUInt32BE(2, 10);
    both.keyspace.set(window.key, value, SPAN);
    await both.client.set(window.key, value, { PX: SPAN });
    await window.refund(charge, 5);
    expect(await window.take(10)).toMatchObject({ allowed: true, used: 10 });
  });
});

describe('a clock that goes back to before the latest stored time', () => {
  it('a request after a refused request that expired units counts at the latest stored time', async () => {
    const window = new Window(1);
    const { stamp } = await window.take();
    both.clock.time += SPAN;
    await window.take(2);
    both.clock.time -= SPAN - 1;
    // At the time of the clock, it would be the second unit of one window.
    expect(await window.take()).toMatchObject({ allowed: true, stamp: stamp + SPAN });
  });

  it('a request after a refund that expired units counts at the latest stored time', async () => {
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
