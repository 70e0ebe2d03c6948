import { expect } from 'vitest';
import { Keys } from '../../src/base/keys.ts';
import type { Operation } from '../../src/engine/operation.ts';
import type { Charge, PolicyNumbers } from '../../src/rate-limit/operations/algorithm.ts';
import { limitRefund } from '../../src/rate-limit/operations/refund.ts';
import { limitReserve, type ReserveReply } from '../../src/rate-limit/operations/reserve.ts';
import { slidingWindow } from '../../src/rate-limit/operations/sliding-window.ts';
import { limitTake, type TakeReply } from '../../src/rate-limit/operations/take.ts';
import { tokenBucket } from '../../src/rate-limit/operations/token-bucket.ts';
import { limitWait } from '../../src/rate-limit/operations/wait.ts';
import type { BothEngines } from '../support/both-engines.ts';
import { BucketModel, expectTake, type Mode, type Numbers, type PolicyModel, WindowModel } from './model.ts';
import { expectReserve, expectWait } from './model-ahead.ts';

export interface PolicySpec {
  readonly kind: 'window' | 'bucket';
  readonly numbers: PolicyNumbers;
}

/** Charges that can be refunded. */
export interface Refundable {
  readonly units: number;
  readonly charges: readonly (Charge & { readonly policy: number })[];
}

interface Counted extends PolicySpec {
  readonly key: string;
  readonly model: PolicyModel;
}

/** The clock of a run goes no further, since the keyspace of the tests keeps nothing for longer. */
const MOST_MS = 9 * 365 * 86_400_000;
const BEGIN = 1_700_000_000_000;

let runs = 0;

/** Runs policies of one identity on Redis, in memory and in the model, and compares all replies. */
export class SideBySide {
  /** The last replies, for steps that move the clock to the next change. */
  lastReplies: readonly TakeReply[] = [];
  readonly #both: BothEngines;
  readonly #policies: readonly Counted[];

  constructor(both: BothEngines, specs: readonly PolicySpec[]) {
    const keys = new Keys(`${both.prefix}:${runs++}`);
    this.#both = both;
    both.clock.time = BEGIN;
    this.#policies = specs.map((spec, index) => ({
      ...spec,
      key: keys.rate('id', `p${index}`),
      model: modelOf(spec),
    }));
  }

  keyOf(policy: number): string {
    return this.#at(policy).key;
  }

  turnClock(ms: number): void {
    const { clock } = this.#both;
    clock.time = Math.min(clock.time + ms, Math.max(clock.time, BEGIN + MOST_MS));
  }

  /** `which`: default all policies. `tighter`: how much the limits are lowered for this call. */
  async take(
    mode: Mode,
    cost: number,
    which: readonly number[] = this.#policies.map((_, index) => index),
    tighter = 0,
  ): Promise<readonly TakeReply[]> {
    return this.#takeAll(mode, [cost], which, tighter);
  }

  /** Takes the costs one after the other in the model, and in one command on Redis and in memory. */
  takeTogether(costs: readonly number[], which: readonly number[]): Promise<readonly TakeReply[]> {
    return this.#takeAll('take', costs, which, 0);
  }

  async #takeAll(
    mode: Mode,
    costs: readonly number[],
    which: readonly number[],
    tighter: number,
  ): Promise<readonly TakeReply[]> {
    await this.#forgetShortLived();
    const chosen = which.map((policy) => {
      const { kind, numbers, key, model } = this.#at(policy);
      const limit = Math.max(0, numbers[0] - tighter);
      return { kind, key, model, numbers: [limit, numbers[1], numbers[2]] as const };
    });
    const args = {
      mode,
      costs,
      policies: chosen.map(({ kind, numbers }) => ({ algorithm: algorithmOf(kind), numbers })),
    };
    const keys = chosen.map(({ key }) => key);
    const [memory, redis] = await Promise.all([
      this.#both.memory.run(limitTake(args.policies), keys, args),
      this.#both.redis.run(limitTake(args.policies), keys, args),
    ]);
    const modelled = chosen.map(({ model, numbers }) => ({ model, limit: BigInt(numbers[0]) }));
    const time = BigInt(this.#both.clock.time);
    const expected = costs.flatMap((cost) => expectTake(modelled, time, mode, BigInt(cost)));
    expect(memory, 'the in-memory implementation').toEqual(expected);
    expect(redis, 'the script').toEqual(expected);
    this.lastReplies = redis;
    return redis;
  }

  /** Takes units for a request that may wait up to `mostMs`. */
  async wait(cost: number, mostMs: number, which: readonly number[]): Promise<readonly TakeReply[]> {
    const { keys, policies, modelled, time } = await this.#choose(which);
    const expected = expectWait(modelled, time, BigInt(cost), BigInt(mostMs));
    const replies = await this.#onBoth(limitWait(policies), keys, { cost, mostMs, policies }, expected);
    this.lastReplies = replies;
    return replies;
  }

  /** Takes a batch of units that may be used for `holdMs`. */
  async reserve(
    least: number,
    { most, holdMs }: { readonly most: number; readonly holdMs: number },
    which: readonly number[],
  ): Promise<ReserveReply> {
    const { keys, policies, modelled, time } = await this.#choose(which);
    const size = { most: BigInt(most), hold: BigInt(holdMs) };
    const expected = expectReserve(modelled, time, BigInt(least), size);
    const reply = await this.#onBoth(
      limitReserve(policies),
      keys,
      { least, most, holdMs, policies },
      expected,
    );
    this.lastReplies = reply.replies;
    return reply;
  }

  async #choose(which: readonly number[]) {
    await this.#forgetShortLived();
    const chosen = which.map((policy) => this.#at(policy));
    return {
      keys: chosen.map(({ key }) => key),
      policies: chosen.map(({ kind, numbers }) => ({ algorithm: algorithmOf(kind), numbers })),
      modelled: chosen.map(({ model, numbers }) => ({ model, limit: BigInt(numbers[0]) })),
      time: BigInt(this.#both.clock.time),
    };
  }

  async #onBoth<Args, Reply>(
    operation: Operation<Args, Reply>,
    keys: readonly string[],
    args: Args,
    expected: Reply,
  ): Promise<Reply> {
    expect(await this.#both.memory.run(operation, keys, args), 'the in-memory implementation').toEqual(
      expected,
    );
    const reply = await this.#both.redis.run(operation, keys, args);
    expect(reply, 'the script').toEqual(expected);
    return reply;
  }

  /** Takes one unit from the first policy this many times, in the same millisecond. Replies are not compared. */
  async hit(times: number): Promise<void> {
    const { kind, numbers, key, model } = this.#at(0);
    const args = { mode: 'take', costs: [1], policies: [{ algorithm: algorithmOf(kind), numbers }] } as const;
    for (let left = times; left > 0; left -= 1_024) {
      const batch = Array.from({ length: Math.min(left, 1_024) }, () => [
        this.#both.redis.run(limitTake(args.policies), [key], args),
        this.#both.memory.run(limitTake(args.policies), [key], args),
      ]);
      await Promise.all(batch.flat());
    }
    model.charge(BigInt(this.#both.clock.time), BigInt(numbers[0]), BigInt(times), false);
  }

  /** The refund of a take; undefined when it charged nothing or was refused. */
  static refundableOf(
    replies: readonly TakeReply[],
    which: readonly number[],
    units: number,
  ): Refundable | undefined {
    const charges = replies.map(({ stamp, position }, index) => ({
      policy: which[index] ?? 0,
      stamp,
      position,
    }));
    return charges.some(({ stamp }) => stamp > 0) ? { units, charges } : undefined;
  }

  async refund({ units, charges }: Refundable): Promise<void> {
    await this.#forgetShortLived();
    const keys = charges.map(({ policy }) => this.keyOf(policy));
    const policies = charges.map(({ policy, stamp, position }) => {
      const { kind, numbers, model } = this.#at(policy);
      model.refund(
        BigInt(this.#both.clock.time),
        { stamp: BigInt(stamp), position: BigInt(position) },
        BigInt(units),
      );
      return { algorithm: algorithmOf(kind), numbers, stamp, position, units };
    });
    await this.#both.memory.run(limitRefund(policies), keys, { policies });
    await this.#both.redis.run(limitRefund(policies), keys, { policies });
  }

  async reset(policy: number): Promise<void> {
    const { key, model } = this.#at(policy);
    model.clear();
    // Within the same millisecond, a charge before the reset could not be distinguished from one after it.
    this.#both.clock.time += 1;
    this.#both.keyspace.ttls.delete(key);
    await this.#both.memory.delete([key]);
    await this.#both.redis.delete([key]);
  }

  /** Redis expires keys by its own clock and not by the test's, so keys that are about to expire are reset everywhere. */
  async #forgetShortLived(): Promise<void> {
    for (const [index, { key }] of this.#policies.entries()) {
      if ((this.#both.keyspace.ttls.get(key) ?? Number.POSITIVE_INFINITY) < 30_000) await this.reset(index);
    }
  }

  #at(policy: number): Counted {
    const found = this.#policies[policy];
    if (found === undefined) throw new Error(`there is no policy ${policy}`);
    return found;
  }
}

function algorithmOf(kind: PolicySpec['kind']) {
  return kind === 'window' ? slidingWindow : tokenBucket;
}

function modelOf({ kind, numbers: [limit, span, rate] }: PolicySpec): PolicyModel {
  const numbers: Numbers = [BigInt(limit), BigInt(span), BigInt(rate)];
  return kind === 'window' ? new WindowModel(numbers) : new BucketModel(numbers);
}
