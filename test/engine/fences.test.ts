import { expect, it, vi } from 'vitest';
import { Keys } from '../../src/base/keys.ts';
import { memoryEngine } from '../../src/engine/memory-engine.ts';
import { MemoryKeyspace } from '../../src/engine/memory-keyspace.ts';
import { lockAcquire } from '../../src/lock/operations/acquire.ts';
import { lockRelease } from '../../src/lock/operations/release.ts';
import { TestClock } from '../support/both-engines.ts';

const ASKED = { token: 't', waitMs: 0, process: '', channels: 't-calls:', isFair: true } as const;

/** Acquires locks on an in-memory engine, and reads the fences from the replies. */
function grantingOn(memory: MemoryKeyspace, clock: TestClock) {
  const engine = memoryEngine(memory, clock);
  const keys = new Keys('t');
  return {
    async grant(id: string): Promise<number> {
      const { lock, line, fence } = keys.lock(id);
      const asked = { ...ASKED, lease: 15_000, metadata: '' };
      return (await engine.run(lockAcquire, [lock, line, fence], asked)).fence;
    },
    async release(id: string): Promise<void> {
      const { lock, line } = keys.lock(id);
      await engine.run(lockRelease, [lock, line], ASKED);
    },
  };
}

it('on memory:, released locks leave space for new locks, and fencing tokens still grow', async () => {
  const clock = new TestClock();
  const refusing = { maxEntries: 100, maxBytes: 2 ** 20, whenFull: 'refuse' } as const;
  const limits = { lock: refusing, fence: { ...refusing, whenFull: 'evict' } } as const;
  const memory = new MemoryKeyspace(clock, limits);
  const { grant, release } = grantingOn(memory, clock);
  const first = await grant('first');
  await release('first');
  expect(await grant('first'), 'the fence is higher in the same millisecond').toBe(first + 1);
  for (let id = 0; id < 300; id++) {
    clock.time++;
    await grant(`lock ${id}`);
    await release(`lock ${id}`);
  }
  await release('first');
  expect(memory.get(new Keys('t').lock('first').fence), 'the counter is forgotten').toBeUndefined();
  expect(await grant('first')).toBeGreaterThan(first + 1);
  for (let id = 0; id < 99; id++) await grant(`held ${id}`);
  await expect(grant('one too many')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_FULL' });
});

it('on memory:, the release of the only lock clears no large tables', async () => {
  const clock = new TestClock();
  const { grant, release } = grantingOn(new MemoryKeyspace(clock), clock);
  await grant('first');
  await release('first');
  const fill = vi.spyOn(Array.prototype, 'fill');
  for (let turn = 0; turn < 3; turn++) {
    await grant('a');
    await release('a');
  }
  const cleared = fill.mock.contexts.map((array) => (array as unknown[]).length);
  fill.mockRestore();
  expect(cleared.filter((length) => length > 1_000)).toEqual([]);
});

it('a limit that is named `fence` is not stored with the fence counters of locks', () => {
  const memory = new MemoryKeyspace(new TestClock());
  const keys = new Keys('t');
  const counters = [keys.rate('id', 'fence'), keys.concurrency('id', 'fence').slots];
  for (const key of counters) memory.set(key, Buffer.from('x'), 1_000);
  expect(memory.matching(keys.ratePattern('fence'))).toEqual([counters[0]]);
});
