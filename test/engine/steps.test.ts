import { expect, it, vi } from 'vitest';
import { Keys } from '../../src/base/keys.ts';
import { cacheEnterPolicy } from '../../src/cache/store/operations/policy-index.ts';
import { concurrencyAcquire } from '../../src/concurrency/operations/acquire.ts';
import { concurrencyRelease } from '../../src/concurrency/operations/release.ts';
import { concurrencyRenew } from '../../src/concurrency/operations/renew.ts';
import { memoryEngine } from '../../src/engine/memory-engine.ts';
import { MemoryKeyspace } from '../../src/engine/memory-keyspace.ts';
import { SortedSet } from '../../src/engine/sorted-set.ts';
import { lockAcquire } from '../../src/lock/operations/acquire.ts';
import { lockRelease } from '../../src/lock/operations/release.ts';
import { TestClock } from '../support/both-engines.ts';

/** Counts bytes read and written, accesses to sorted sets, and members that are iterated. */
class CountingKeyspace extends MemoryKeyspace {
  steps = 0;

  constructor() {
    super(new TestClock());
    const { entries } = SortedSet.prototype;
    const count = (size: number) => {
      this.steps += size;
    };
    vi.spyOn(SortedSet.prototype, 'entries').mockImplementation(function (this: SortedSet) {
      count(this.size);
      return entries.call(this);
    });
  }

  override get(key: string): Buffer | undefined {
    const value = super.get(key);
    this.steps += value?.length ?? 0;
    return value;
  }

  override set(key: string, value: Buffer, ttlMs: number): void {
    this.steps += value.length;
    super.set(key, value, ttlMs);
  }

  override sortedSet(key: string): SortedSet | undefined {
    this.steps++;
    return super.sortedSet(key);
  }

  override rewrite(key: string, value: Buffer): void {
    this.steps += value.length;
    super.rewrite(key, value);
  }
}

const SECOND = 1_000;
const ASKED = { waitMs: 60 * SECOND, process: 'P', channels: 't-calls:' } as const;
const LEASE = { lease: 60 * SECOND };

/** The steps for a number of requests, with tokens of one length. */
type Run = (count: number) => Promise<number>;

function tokensOf(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `token-${String(index).padStart(6, '0')}`);
}

const RUNS: Readonly<Record<string, Run>> = {
  async 'waiting for a lock'(count) {
    const memory = new CountingKeyspace();
    const engine = memoryEngine(memory, new TestClock());
    const { lock, line, fence } = new Keys('t').lock('a');
    const ask = { ...ASKED, isFair: true };
    const tokens = tokensOf(count);
    const acquire = (token: string) =>
      engine.run(lockAcquire, [lock, line, fence], { ...ask, ...LEASE, token, metadata: '' });
    for (const token of tokens) await acquire(token);
    for (const token of tokens) {
      expect((await acquire(token)).granted).toBe(true);
      await engine.run(lockRelease, [lock, line], { ...ask, token });
    }
    return memory.steps;
  },

  async 'waiting for a lock and giving up, from the last to the first,'(count) {
    const memory = new CountingKeyspace();
    const engine = memoryEngine(memory, new TestClock());
    const { lock, line, fence } = new Keys('t').lock('a');
    const ask = { ...ASKED, isFair: true };
    const tokens = tokensOf(count);
    for (const token of tokens) {
      await engine.run(lockAcquire, [lock, line, fence], { ...ask, ...LEASE, token, metadata: '' });
    }
    for (const token of tokens.reverse()) await engine.run(lockRelease, [lock, line], { ...ask, token });
    return memory.steps;
  },

  async 'waiting for a slot and renewing it'(count) {
    const memory = new CountingKeyspace();
    const engine = memoryEngine(memory, new TestClock());
    const { slots, line } = new Keys('t').concurrency('a', 'n');
    const limit = count / 2;
    const tokens = tokensOf(count);
    const acquire = (token: string) =>
      engine.run(concurrencyAcquire, [slots, line], { ...ASKED, ...LEASE, token, limit, maxQueue: count });
    for (const token of tokens) await acquire(token);
    for (const token of tokens) {
      expect((await acquire(token)).outcome).toBe('granted');
      await engine.run(concurrencyRenew, [slots, line], { ...ASKED, ...LEASE, token });
      await engine.run(concurrencyRelease, [slots, line], { ...ASKED, token, limit });
    }
    return memory.steps;
  },

  async 'storing a response within maxEntries'(count) {
    const memory = new CountingKeyspace();
    const engine = memoryEngine(memory, new TestClock());
    const key = new Keys('t').cachePolicy('p');
    for (const member of tokensOf(count)) {
      await engine.run(cacheEnterPolicy, [key], { member, lifeMs: 60 * SECOND, maxEntries: count / 2 });
    }
    return memory.steps;
  },
};

it.each(Object.keys(RUNS))(
  'the cost of %s on memory: grows at most linearly with the number of requests',
  async (name) => {
    const run = RUNS[name] ?? expect.unreachable();
    const [few, many] = [await run(250), await run(1_000)];
    expect(few).toBeGreaterThan(0);
    expect(many / few).toBeLessThan(5);
  },
);
