import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BucketModel, WindowModel } from './model.ts';
import { expectReserve, expectWait } from './model-ahead.ts';

interface Use {
  readonly at: bigint;
  readonly units: bigint;
}

const BEGIN = 1_000_000n;

const sum = (uses: readonly Use[]) => uses.reduce((total, { units }) => total + units, 0n);

/** The most units that were used within a window, above its limit. */
function windowSurplus(uses: readonly Use[], span: bigint, limit: bigint): bigint {
  const surplus = uses.map(
    ({ at: end }) => sum(uses.filter(({ at }) => at > end - span && at <= end)) - limit,
  );
  return surplus.reduce((one, other) => (one > other ? one : other), 0n);
}

/** The most grains that were used between two moments, above the capacity and the refill. */
function bucketSurplus(uses: readonly Use[], [limit, span, rate]: readonly [bigint, bigint, bigint]): bigint {
  const surplus = uses.flatMap(({ at: from }) =>
    uses
      .filter(({ at: to }) => to >= from)
      .map(({ at: to }) => {
        const used = sum(uses.filter(({ at }) => at >= from && at <= to)) * span;
        return used - limit * span - (to - from) * rate;
      }),
  );
  return surplus.reduce((one, other) => (one > other ? one : other), 0n);
}

const arrivals = fc.array(
  fc.record({
    ms: fc.nat(300),
    cost: fc.integer({ min: 1, max: 4 }),
    most: fc.constantFrom(0, 100, 1_000, 5_000),
    uses: fc.array(fc.nat(1_000), { minLength: 20, maxLength: 20 }),
  }),
  { minLength: 1, maxLength: 40, size: 'max' },
);
const windowNumbers = fc
  .tuple(fc.integer({ min: 1, max: 9 }), fc.constantFrom(1, 7, 100))
  .map(([limit, resolution]) => [BigInt(limit), 1_000n, BigInt(resolution)] as const);
const bucketNumbers = fc
  .tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 999 }), fc.integer({ min: 1, max: 7 }))
  .map(([limit, span, rate]) => [BigInt(limit), BigInt(span), BigInt(rate)] as const);

describe('the model of requests that wait', () => {
  it('waiting requests are granted in the order of their arrival to within the resolution, and no bound of a policy is exceeded', () => {
    fc.assert(
      fc.property(windowNumbers, bucketNumbers, arrivals, fc.nat(2), (window, bucket, run, which) => {
        const windowPolicy = { model: new WindowModel(window), limit: window[0] };
        const bucketPolicy = { model: new BucketModel(bucket), limit: bucket[0] };
        const policies = [[windowPolicy], [bucketPolicy], [windowPolicy, bucketPolicy]][which] ?? [];
        const resolution = which === 1 ? 1n : window[2];
        const uses: Use[] = [];
        let latest = 0n;
        let time = BEGIN;
        for (const { ms, cost, most } of run) {
          time += BigInt(ms);
          const replies = expectWait(policies, time, BigInt(cost), BigInt(most));
          if (replies.some(({ allowed }) => !allowed)) continue;
          const at = time + BigInt(Math.max(...replies.map(({ waitMs }) => waitMs)));
          expect(at <= time + BigInt(most)).toBe(true);
          // Every bound of the policy holds for the moments at which requests continue.
          expect(at > latest - resolution, 'a request passes an earlier one').toBe(true);
          latest = at > latest ? at : latest;
          uses.push({ at, units: BigInt(cost) });
        }
        if (which !== 1) expect(windowSurplus(uses, window[1], window[0])).toBe(0n);
        if (which !== 0) expect(bucketSurplus(uses, bucket)).toBe(0n);
      }),
      { numRuns: 150 },
    );
  });

  it('a request waits no longer than the units before it need', () => {
    const model = new WindowModel([2n, 1_000n, 1n]);
    const grants = [];
    for (let ms = 0n; ms < 600n; ms += 100n) {
      const [reply] = expectWait([{ model, limit: 2n }], BEGIN + ms, 1n, 5_000n);
      grants.push(ms + BigInt(reply?.waitMs ?? -1));
    }
    expect(grants).toEqual([0n, 100n, 1_000n, 1_100n, 2_000n, 2_100n]);
  });
});

describe('the model of batches', () => {
  const hold = fc.integer({ min: 1, max: 400 });
  const sizes = fc.integer({ min: 4, max: 12 });

  it('units of batches that are used at any time of the hold exceed no window', () => {
    fc.assert(
      fc.property(windowNumbers, hold, sizes, arrivals, (numbers, holdMs, size, run) => {
        const policy = { model: new WindowModel(numbers), limit: numbers[0] };
        const uses = useBatches([policy], run, { most: BigInt(size), hold: BigInt(holdMs) });
        expect(windowSurplus(uses, numbers[1], numbers[0])).toBe(0n);
      }),
      { numRuns: 150 },
    );
  });

  it('units of batches exceed no bucket whose capacity is lowered by the refill during the hold', () => {
    fc.assert(
      fc.property(bucketNumbers, hold, sizes, arrivals, ([limit, span, rate], holdMs, size, run) => {
        const lowered = limit;
        const capacity = lowered + (BigInt(holdMs) * rate + span - 1n) / span;
        const policy = { model: new BucketModel([capacity, span, rate]), limit: lowered };
        const uses = useBatches([policy], run, { most: BigInt(size), hold: BigInt(holdMs) });
        expect(bucketSurplus(uses, [capacity, span, rate])).toBe(0n);
      }),
      { numRuns: 150 },
    );
  });

  it('the check detects a bucket whose capacity is not lowered', () => {
    const policy = { model: new BucketModel([10n, 100n, 1n]), limit: 10n };
    const uses: Use[] = [];
    for (const ms of [0n, 500n]) {
      const { units } = expectReserve([policy], BEGIN + ms, 1n, { most: 10n, hold: 500n });
      uses.push({ at: BEGIN + 500n, units: BigInt(units) });
    }
    expect(bucketSurplus(uses, [10n, 100n, 1n])).toBeGreaterThan(0n);
  });

  function useBatches(
    policies: Parameters<typeof expectReserve>[0],
    run: readonly { readonly ms: number; readonly cost: number; readonly uses: readonly number[] }[],
    size: { readonly most: bigint; readonly hold: bigint },
  ): readonly Use[] {
    const uses: Use[] = [];
    let time = BEGIN;
    for (const { ms, cost, uses: after } of run) {
      time += BigInt(ms);
      const { units } = expectReserve(policies, time, BigInt(cost), size);
      for (let index = 0; index < units; index++) {
        uses.push({ at: time + (BigInt(after[index] ?? 0) * size.hold) / 1_000n, units: 1n });
      }
    }
    return uses;
  }
});
