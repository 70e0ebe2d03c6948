import fc from 'fast-check';
import { RESP_TYPES } from 'redis';
import { expect } from 'vitest';
import { Keys } from '../../src/base/keys.ts';
import { Hash } from '../../src/engine/hash.ts';
import type { Operation } from '../../src/engine/operation.ts';
import type { Charge } from '../../src/rate-limit/operations/algorithm.ts';
import type { BothEngines } from '../support/both-engines.ts';

/** One step of a run: an operation, a change of the clock, or a corrupted value. */
export type Step = (world: World) => Promise<void>;

let runs = 0;

/** The keys of one run, which no other run uses. */
export class World {
  readonly both: BothEngines;
  readonly keys: Keys;
  /** Earlier charges, for refunds. */
  readonly charges: (Charge & { readonly policy: number; readonly units: number })[] = [];

  /** The cursors of entries that were appended to a log. */
  readonly cursors: string[] = [];

  constructor(both: BothEngines) {
    this.both = both;
    this.keys = new Keys(`${both.prefix}:${runs++}`);
  }

  /** Runs an operation on both engines; replies and stored bytes must be equal. */
  async compare<Args, Reply>(
    operation: Operation<Args, Reply>,
    keys: readonly string[],
    args: Args,
  ): Promise<Reply> {
    await this.#forgetShortLived(keys);
    const [memory, redis] = await Promise.all([
      settled(this.both.memory.run(operation, keys, args)),
      settled(this.both.redis.run(operation, keys, args)),
    ]);
    expect(redis, operation.name).toEqual(memory);
    await this.compareStored(keys);
    return redis.reply as Reply;
  }

  /** Stores a value on both sides. */
  async put(key: string, value: Buffer): Promise<void> {
    this.both.keyspace.set(key, value, 86_400_000);
    await this.both.client.set(key, value, { PX: 86_400_000 });
  }

  /** Deletes on both sides what Redis may expire at any moment by its own clock, so that both stay equal. */
  async #forgetShortLived(keys: readonly string[]): Promise<void> {
    for (const key of keys.filter((each) => this.#isShortLived(each))) {
      this.both.keyspace.delete(key);
      this.both.keyspace.ttls.delete(key);
      await this.both.client.del(key);
    }
  }

  async compareStored(keys: readonly string[]): Promise<void> {
    const bytes = this.both.client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
    for (const key of keys.filter((each) => !this.#isShortLived(each))) {
      const stored = this.both.keyspace.get(key);
      const type = await this.both.client.type(key);
      const packed = {
        zset: () => this.#sortedBytes(key),
        hash: () => this.#hashBytes(key),
        stream: () => this.#streamBytes(key),
      };
      const bytesThere = await (packed[type as keyof typeof packed]?.() ?? bytes.get(key));
      expect(bytesThere, key).toEqual(stored ?? null);
      if (stored === undefined) continue;
      const ttl = this.both.keyspace.ttls.get(key) ?? 0;
      const ttlThere = await this.both.client.pTTL(key);
      if (ttl === Number.POSITIVE_INFINITY) expect(ttlThere, `the TTL of ${key}`).toBe(-1);
      else expect(Math.abs(ttl - ttlThere), `the TTL of ${key}`).toBeLessThan(30_000);
    }
  }

  /** A sorted set as the in-memory implementations store it. */
  async #sortedBytes(key: string): Promise<Buffer> {
    const entries = await this.both.client.zRangeWithScores(key, 0, -1);
    return Buffer.from(JSON.stringify(entries.map(({ score, value }) => [score, value])));
  }

  /** A stream as `Stream` packs it. */
  async #streamBytes(key: string): Promise<Buffer> {
    const { 'last-generated-id': lastId } = await this.both.client.xInfoStream(key);
    const entries = await this.both.client.xRange(key, '-', '+');
    return Buffer.from(
      JSON.stringify([
        lastId,
        (entries ?? []).map(({ id, message }) => [id, ...Object.entries(message).flat()]),
      ]),
    );
  }

  /** A hash as the in-memory implementations store it. */
  async #hashBytes(key: string): Promise<Buffer> {
    const hash = new Hash();
    // The reply of HGETALL is an object, and loses the field `__proto__`.
    const [fields, values] = [await this.both.client.hKeys(key), await this.both.client.hVals(key)];
    for (const [index, field] of fields.entries()) hash.set(field, Buffer.from(values[index] ?? ''));
    return hash.pack();
  }

  #isShortLived(key: string): boolean {
    return (this.both.keyspace.ttls.get(key) ?? Number.POSITIVE_INFINITY) < 30_000;
  }
}

async function settled<Reply>(work: Promise<Reply>): Promise<{ reply?: Reply; error?: unknown }> {
  try {
    return { reply: await work };
  } catch (error) {
    return { error: (error as { code?: unknown }).code ?? error };
  }
}

/** Redis's own clock advances during a run, so times are long enough that no TTL ends by it. */
export const S = 1_000;

export const turnClock: fc.Arbitrary<Step> = fc
  .oneof(
    fc.integer({ min: 0, max: 5 }),
    fc.integer({ min: -300 * S, max: 2_000 * S }),
    fc.constantFrom(100 * S - 1, 100 * S, 100 * S + 1, 1_000 * S - 1, 1_000 * S, 1_000 * S + 1, 60_000 * S),
  )
  .map(
    (ms): Step =>
      async ({ both }) => {
        both.clock.time += ms;
      },
  );

const GARBAGE = [
  '',
  'W',
  'W\u0001',
  'W\u0001\u0000\u0000',
  'W\u0002 a later format',
  '1:5',
  '1:9007199254740992',
  '1:99999999999999999999',
  '1:5:9007199254740992',
  '1:99999999999999999999:1700001000000',
  '1:9007199254740992:1700001000000:ann:P1:',
  '1:5:99999999999999999999:ann:P1:',
  '1:L:0:99999999999999999999:ann',
  '2:5:5:5',
  '1:5;',
  '1:1700001000000;',
  '1:9999999999999999;',
  '2:5;',
  '1:99999999999999999999:1:1:1:1:;',
  '1:1:1:1:1:0:;',
  '1:9:2:8:1700000000000:1000000:;',
  '1:9:2:8:1700000000000:1000000:3-4,6-8;',
  '1:9:2:8:1700000000000:1000000:3-4,4-3;',
  '1:9:2:8:1700000000000:1000000:03-4;',
  '1:9:9:8:1700000000000:1000000:;',
  'S\u0001',
  'S\u0007later',
  'C\u0001short',
  'V\u0001',
  'V\u0001\u0000\u0006accept',
  'V\u0001\u0000\u0006acceptvariant',
  'V\u0001\u0000\u0099accept',
  'V\u0002later',
  '1:L:1:99999999999999:ann',
  '1:P:0:99999999999999:',
  '2:L:0:5:bob',
  '1:L:0:abc:',
  'C\u0009later',
  'I\u0001',
  'I\u0007later',
  `I\u0001X${'\0'.repeat(50)}`,
  `I\u0001R${'\0'.repeat(49)}\u0009short`,
  'D\u0001',
  'D\u0007later',
  'D\u0001\u0000{}',
  'D\u0001\u0009short',
  'D\u0001\u0001a{}',
  'x',
  '1:12:34:to/ken',
  '1:abc',
  '1:7:99999999999999',
  'W\u0001\u0000\u0000\u0000\u0009\u0000\u0000\u0000\u0009\u0000\u0000\u0000\u0000\u0000\u0009',
];

/** Replaces a value on both sides; with `mayCut` also by a part of itself, for strings. */
export function spoil(keysOf: (world: World) => readonly string[], mayCut = true): fc.Arbitrary<Step> {
  return fc.tuple(fc.constantFrom(...GARBAGE), fc.nat(5), fc.integer({ min: 0, max: 40 }), fc.boolean()).map(
    ([garbage, which, cut, truncate]): Step =>
      async (world) => {
        const keys = keysOf(world);
        const key = keys[which % keys.length] ?? '';
        const stored = world.both.keyspace.get(key);
        const value =
          mayCut && truncate && stored !== undefined
            ? stored.subarray(0, cut)
            : Buffer.from(garbage, 'latin1');
        await world.put(key, value);
      },
  );
}
