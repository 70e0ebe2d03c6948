import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BothEngines, startBothEngines } from '../support/both-engines.ts';
import { BucketModel, expectTake, type Mode, WindowModel } from './model.ts';
import { type PolicySpec, type Refundable, SideBySide } from './side-by-side.ts';

/** Spans are long in real time, so that Redis expires no key during a run. */
const S = 1_000;

const window = fc
  .tuple(
    fc.oneof(fc.integer({ min: 1, max: 6 }), fc.constantFrom(200, 100_000)),
    fc.constantFrom(100 * S, 1_000 * S, 86_400 * S),
    fc.constantFrom(1, 1, 7 * S, 100 * S),
  )
  .map((numbers): PolicySpec => ({ kind: 'window', numbers }));

const bucket = fc
  .tuple(
    fc.oneof(fc.integer({ min: 1, max: 6 }), fc.constantFrom(200, 100_000)),
    fc.constantFrom(100 * S, 777_777, 1_000 * S, 86_400 * S),
    fc.constantFrom(1, 3, 7, 1_000),
  )
  .map((numbers): PolicySpec => ({ kind: 'bucket', numbers }));

/** Steps are data and not functions, so that fast-check prints a readable counterexample. */
type Step =
  | { readonly do: 'take'; mode: Mode; cost: number; which: readonly number[]; tighter: number }
  | { readonly do: 'take together'; costs: readonly number[]; which: readonly number[] }
  | { readonly do: 'wait'; cost: number; most: number; which: readonly number[] }
  | { readonly do: 'reserve'; least: number; most: number; hold: number; which: readonly number[] }
  | { readonly do: 'turn the clock'; ms: number }
  | { readonly do: 'go to the change'; field: 'waitMs' | 'resetMs'; beside: number }
  | { readonly do: 'refund'; nth: number }
  | { readonly do: 'reset'; policy: number };

const mode = fc.constantFrom<Mode>('take', 'take', 'take', 'peek', 'force', 'count');

const cost = fc.oneof(
  fc.constant(1),
  fc.integer({ min: 0, max: 7 }),
  fc.constantFrom(100, 200, 201, 65_535, 65_536, 100_000, 100_001),
);

const ms = fc.oneof(
  fc.integer({ min: 0, max: 5 }),
  fc.integer({ min: -300 * S, max: 2_000 * S }),
  fc.constantFrom(100 * S - 1, 100 * S, 1_000 * S - 1, 1_000 * S, 86_400 * S, -90_000 * S),
);

const step = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('take' as const),
      mode,
      cost,
      which: fc.uniqueArray(fc.nat(2), { minLength: 1 }),
      tighter: fc.constantFrom(0, 0, 0, 1, 3),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('take together' as const),
      costs: fc.array(cost, { minLength: 2, maxLength: 6 }),
      which: fc.uniqueArray(fc.nat(2), { minLength: 1 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      cost,
      most: fc.oneof(fc.constantFrom(0, 1, 50 * S, 1_000 * S), fc.nat(5_000 * S)),
      which: fc.uniqueArray(fc.nat(2), { minLength: 1 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('reserve' as const),
      least: fc.integer({ min: 0, max: 4 }),
      most: fc.constantFrom(4, 5, 100, 1_000_000),
      hold: fc.constantFrom(1, 20 * S, 500 * S),
      which: fc.uniqueArray(fc.nat(2), { minLength: 1 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('turn the clock' as const), ms }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('go to the change' as const),
      field: fc.constantFrom('waitMs' as const, 'resetMs' as const),
      beside: fc.constantFrom(-1, 0, 1),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('refund' as const), nth: fc.nat(50) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reset' as const), policy: fc.nat(2) }) },
);

class Run {
  readonly #subject: SideBySide;
  readonly #count: number;
  /** The charges that are not refunded yet. */
  readonly #refundable: Refundable[] = [];

  constructor(specs: readonly PolicySpec[]) {
    this.#subject = new SideBySide(both, specs);
    this.#count = specs.length;
  }

  async make(step: Step): Promise<void> {
    switch (step.do) {
      case 'take':
        return this.take(step.mode, step.cost, step.which, step.tighter);
      case 'take together':
        return this.takeTogether(step.costs, step.which);
      case 'wait': {
        const which = this.#existing(step.which);
        if (which.length === 0) return;
        const replies = await this.#subject.wait(step.cost, step.most, which);
        this.#keep(SideBySide.refundableOf(replies, which, step.cost));
        return;
      }
      case 'reserve': {
        const which = this.#existing(step.which);
        if (which.length === 0) return;
        const { units, replies } = await this.#subject.reserve(
          step.least,
          { most: step.most, holdMs: step.hold },
          which,
        );
        this.#keep(SideBySide.refundableOf(replies, which, units));
        return;
      }
      case 'turn the clock':
        return this.#subject.turnClock(step.ms);
      case 'go to the change': {
        const change = this.#subject.lastReplies.find((reply) => reply[step.field] > 0)?.[step.field];
        if (change !== undefined) this.#subject.turnClock(change + step.beside);
        return;
      }
      case 'refund':
        return this.refund(step.nth);
      case 'reset':
        if (step.policy < this.#count) await this.#subject.reset(step.policy);
    }
  }

  async take(how: Mode, units: number, policies: readonly number[], tighter: number): Promise<void> {
    const which = this.#existing(policies);
    if (which.length === 0) return;
    const replies = await this.#subject.take(how, units, which, tighter);
    const isAllowed = how === 'force' || replies.every(({ allowed }) => allowed);
    if (isAllowed) this.#keep(SideBySide.refundableOf(replies, which, units));
  }

  #existing(policies: readonly number[]): readonly number[] {
    return policies.filter((policy) => policy < this.#count);
  }

  #keep(refundable: Refundable | undefined): void {
    if (refundable !== undefined) this.#refundable.push(refundable);
  }

  async takeTogether(costs: readonly number[], policies: readonly number[]): Promise<void> {
    const which = policies.filter((policy) => policy < this.#count);
    if (which.length === 0) return;
    const replies = await this.#subject.takeTogether(costs, which);
    for (const [index, units] of costs.entries()) {
      const own = replies.slice(index * which.length, (index + 1) * which.length);
      const refundable = SideBySide.refundableOf(own, which, units);
      if (own.every(({ allowed }) => allowed) && refundable !== undefined) this.#refundable.push(refundable);
    }
  }

  async refund(nth: number): Promise<void> {
    const [refundable] = this.#refundable.splice(nth % Math.max(1, this.#refundable.length), 1);
    if (refundable !== undefined) await this.#subject.refund(refundable);
  }
}

let both: BothEngines;

beforeAll(async () => {
  both = await startBothEngines();
});

afterAll(async () => {
  await both.stop();
});

function check(specs: fc.Arbitrary<readonly PolicySpec[]>, numRuns: number): Promise<void> {
  const steps = fc.array(step, { minLength: 1, maxLength: 40, size: 'max' });
  return fc.assert(
    fc.asyncProperty(specs, steps, async (policies, each) => {
      const run = new Run(policies);
      for (const next of each) await run.make(next);
    }),
    { numRuns },
  );
}

describe('the script and the in-memory implementation', () => {
  it('every field of a reply follows the definition of a sliding window', async () => {
    await check(
      window.map((spec) => [spec]),
      250,
    );
  });

  it('every field of a reply follows the definition of a token bucket', async () => {
    await check(
      bucket.map((spec) => [spec]),
      250,
    );
  });

  it('every field of a reply follows the definitions of the algorithms for several policies at once', async () => {
    await check(fc.array(fc.oneof(window, bucket), { minLength: 2, maxLength: 3 }), 200);
  });

  it('every field of a reply follows the definition of a sliding window for a log of several hundred entries', async () => {
    const spec: PolicySpec = { kind: 'window', numbers: [700, 1_000 * S, 1] };
    const arrival = fc.record({
      do: fc.constant('take' as const),
      mode: fc.oneof({ weight: 9, arbitrary: fc.constant<Mode>('take') }, { weight: 1, arbitrary: mode }),
      cost: fc.oneof({ weight: 30, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: fc.nat(300) }),
      which: fc.constant([0]),
      tighter: fc.constant(0),
    });
    const pause = fc.oneof(
      { weight: 30, arbitrary: fc.integer({ min: 0, max: 2 * S }) },
      { weight: 1, arbitrary: fc.integer({ min: -50 * S, max: 700 * S }) },
    );
    const turn = fc.tuple(arrival, pause, fc.option(fc.nat(1_000), { freq: 8 }));
    await fc.assert(
      fc.asyncProperty(fc.array(turn, { minLength: 500, maxLength: 700 }), async (turns) => {
        const run = new Run([spec]);
        for (const [next, gap, nth] of turns) {
          await run.make(next);
          await run.make({ do: 'turn the clock', ms: gap });
          if (nth !== null) await run.refund(nth);
        }
      }),
      { numRuns: 4, endOnFailure: true },
    );
  });
});

describe('the model of a limiter', () => {
  const requests = fc.array(
    fc.record({ ms: fc.nat(400), cost: fc.integer({ min: 1, max: 4 }), peek: fc.boolean() }),
    { minLength: 1, maxLength: 80, size: 'max' },
  );

  /** The decisions of the policy for requests on a clock that never goes back. */
  function decisionsOf(
    model: WindowModel | BucketModel,
    limit: bigint,
    run: readonly { ms: number; cost: number }[],
  ) {
    let time = 1_000_000n;
    const allowed: { time: bigint; units: bigint }[] = [];
    const refused: { time: bigint; units: bigint; waitMs: bigint }[] = [];
    for (const { ms, cost: units } of run) {
      time += BigInt(ms);
      const [reply] = expectTake([{ model, limit }], time, 'take', BigInt(units));
      const each = { time, units: BigInt(units) };
      if (reply?.allowed === true) allowed.push(each);
      else refused.push({ ...each, waitMs: BigInt(reply?.waitMs ?? 0) });
    }
    return { allowed, refused };
  }

  const sum = (charges: readonly { readonly units: bigint }[]) =>
    charges.reduce((total, { units }) => total + units, 0n);

  it('no window holds more units than the limit, and no request that fits is refused', () => {
    const limits = fc.tuple(fc.integer({ min: 1, max: 9 }), fc.constantFrom(1, 7, 100, 1_000));
    fc.assert(
      fc.property(limits, requests, ([units, step], run) => {
        const [limit, span, resolution] = [BigInt(units), 1_000n, BigInt(step)];
        const { allowed, refused } = decisionsOf(new WindowModel([limit, span, resolution]), limit, run);
        const within = (end: bigint, length: bigint) =>
          sum(allowed.filter(({ time }) => time > end - length && time <= end));
        for (const { time } of allowed) expect(within(time, span) <= limit).toBe(true);
        for (const each of refused) {
          const latest = span + resolution - 1n;
          expect(within(each.time, latest) + each.units > limit, 'a unit came back too late').toBe(true);
        }
      }),
    );
  });

  it('no bucket allows more between two moments than its capacity plus the refill, or refuses a cost that fits', () => {
    const numbers = fc.tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 999 }), fc.nat(6));
    fc.assert(
      fc.property(numbers, requests, ([capacity, interval, more], run) => {
        const [limit, span, rate] = [BigInt(capacity), BigInt(interval), BigInt(more) + 1n];
        const { allowed, refused } = decisionsOf(new BucketModel([limit, span, rate]), limit, run);
        const between = (from: bigint, to: bigint) =>
          sum(allowed.filter(({ time }) => time >= from && time <= to)) * span;
        const supply = (from: bigint, to: bigint) => limit * span + (to - from) * rate;
        for (const [index, { time: from }] of allowed.entries()) {
          for (const { time: to } of allowed.slice(index))
            expect(between(from, to) <= supply(from, to)).toBe(true);
        }
        for (const { time: to, units } of refused) {
          const isDue = ({ time: from }: { readonly time: bigint }) =>
            from <= to && between(from, to) + units * span > supply(from, to);
          expect(units > limit || allowed.some(isDue), 'refused though the bucket had enough tokens').toBe(
            true,
          );
        }
      }),
    );
  });
});
