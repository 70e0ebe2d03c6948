import { expect, it } from 'vitest';
import { LockTimeoutError, type RedisKit, RedisKitError } from '../../src/index.ts';
import { eventsOf } from '../support/kits.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { onEveryStore } from '../support/stores.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';

const LONG = '2m';

function isFree(kit: RedisKit, key: string): Promise<boolean> {
  return kit.locks.inspect(key).then(({ held }) => !held);
}

onEveryStore('A lock on several keys', (makeKit) => {
  it('a lock on several keys holds each key once, with a fencing token of its own', async () => {
    const kit = makeKit();
    const lock = await kit.locks.acquire(['b', 'a', 'b', 'c']);
    expect(lock.keys).toEqual(['a', 'b', 'c']);
    expect([...lock.fences.keys()]).toEqual(['a', 'b', 'c']);
    for (const key of lock.keys) expect((await kit.locks.inspect(key)).fence).toBe(lock.fences.get(key));
    expect(() => lock.fence).toThrow(RedisKitError);
    expect(() => lock.fence).toThrow(/`fences`/);
    expect(lock.remainingMs()).toBeGreaterThan(1_000);
    expect(await lock.release()).toBe(true);
    for (const key of lock.keys) expect(await isFree(kit, key)).toBe(true);
  });

  it('a lock on duplicates of one key has one fencing token', async () => {
    const lock = await makeKit().locks.acquire(['a', 'a']);
    expect(lock.fence).toBe(lock.fences.get('a'));
  });

  it('a lock on several keys is granted for all of them or for none', async () => {
    const kit = makeKit();
    const refused = eventsOf(kit, 'lock:refused');
    const other = await kit.locks.acquire('b');
    expect(await kit.locks.tryAcquire(['a', 'b', 'c'])).toBeNull();
    await expect(kit.locks.acquire(['c', 'b', 'a'], { wait: '150ms' })).rejects.toMatchObject({ key: 'b' });
    expect(refused).toEqual([{ keys: ['a', 'b', 'c'] }, { keys: ['a', 'b', 'c'] }]);
    expect(await isFree(kit, 'a')).toBe(true);
    expect(await isFree(kit, 'c')).toBe(true);
    expect((await kit.locks.inspect('b')).fence).toBe(other.fence);
  });

  it('the wait for several keys has one deadline', async () => {
    const kit = makeKit();
    await kit.locks.acquire('a', { lease: '1s', renew: false });
    const second = await kit.locks.acquire('b');
    const elapsedMs = stopwatch();
    await expect(kit.locks.acquire(['a', 'b'], { wait: '1500ms' })).rejects.toThrow(LockTimeoutError);
    // Separate deadlines of the keys would add up to 2.5 seconds.
    expect(elapsedMs()).toBeLessThan(2_400);
    expect(await isFree(kit, 'a')).toBe(true);
    await second.release();
  });

  it('callers that name the same keys in different orders never deadlock', async () => {
    const kit = makeKit();
    const inside = new Map<string, number>();
    let runs = 0;
    const work = (keys: string[]) =>
      kit.locks.using(keys, { wait: LONG }, async () => {
        for (const key of keys) {
          inside.set(key, (inside.get(key) ?? 0) + 1);
          expect(inside.get(key), key).toBe(1);
        }
        await kit.locks.inspect('x');
        for (const key of keys) inside.set(key, 0);
        runs++;
      });
    const orders = [
      ['a', 'b'],
      ['b', 'a'],
      ['b', 'c', 'a'],
      ['c', 'b'],
    ];
    await Promise.all(Array.from({ length: 24 }, (_, index) => work(orders[index % 4] ?? [])));
    expect(runs).toBe(24);
  });

  it('a lock on several keys is lost with its first key, and its holder is notified once', async () => {
    const kit = makeKit();
    const lost = eventsOf(kit, 'lock:lost');
    stopTime();
    const lock = await kit.locks.acquire(['a', 'b'], { lease: 60_000 });
    await kit.locks.forceRelease('b');
    await passTime(20_000);
    await until('the signal aborts', () => lock.signal.aborted);
    expect(lost).toEqual([{ keys: ['a', 'b'], error: lock.signal.reason }]);
    expect(lock.remainingMs()).toBe(0);
    expect(() => lock.assertHeld()).toThrow(/no longer held/);
    expect(await lock.release()).toBe(false);
    expect(await isFree(kit, 'a')).toBe(true);
  });

  it('all keys of a lock are renewed', async () => {
    const kit = makeKit();
    stopTime();
    const lock = await kit.locks.acquire(['a', 'b'], { lease: 60_000 });
    for (let third = 1; third <= 8; third++) {
      await passTime(20_000);
      expect(await kit.locks.tryAcquire('a')).toBeNull();
      expect(await kit.locks.tryAcquire('b')).toBeNull();
    }
    await lock.extend('1h');
    expect(lock.remainingMs()).toBe(3_600_000);
    lock.assertHeld();
  });

  it.each([
    [[], 'no keys'],
    [['a', ''], "is ''"],
    [['a', 7], 'is 7'],
  ])('a call with the invalid keys %j is rejected', async (keys, part) => {
    await expect(makeKit().locks.acquire(keys as string[])).rejects.toThrow(part);
  });
});
