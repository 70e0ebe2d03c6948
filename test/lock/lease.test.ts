import { describe, expect, it, onTestFinished } from 'vitest';
import { type LockHandle, LockLostError } from '../../src/index.ts';
import { redisUrl } from '../support/context.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../support/kits.ts';
import { connectPlainClient, type PlainClient } from '../support/plain-client.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';

function held(handle: LockHandle | null): LockHandle {
  if (handle === null) throw new Error('the lock was not free');
  return handle;
}

const LEASE_MS = 60_000;
const LOST = { name: 'LockLostError', code: 'ERR_REDIS_KIT_LOCK_LOST' };

describeOnBothEngines('a lock', (url) => {
  it('a lock has one holder at a time and is free after its release', async () => {
    const { locks } = kitForTest({ url: url() });
    const first = held(await locks.tryAcquire('a'));
    expect(await locks.tryAcquire('a')).toBeNull();
    expect(await locks.tryAcquire('b')).not.toBeNull();
    expect(await first.release()).toBe(true);
    expect(await locks.tryAcquire('a')).not.toBeNull();
  });

  it('a lock is granted to only one of fifty concurrent callers', async () => {
    const { locks } = kitForTest({ url: url() });
    const attempts = await Promise.all(Array.from({ length: 50 }, () => locks.tryAcquire('a')));
    expect(attempts.filter((attempt) => attempt !== null)).toHaveLength(1);
  });

  it('a lock is released once, however often `release` is called', async () => {
    const kit = kitForTest({ url: url() });
    const released = eventsOf(kit, 'lock:released');
    const lock = held(await kit.locks.tryAcquire('a'));
    expect(await Promise.all([lock.release(), lock.release()])).toEqual([true, true]);
    const next = held(await kit.locks.tryAcquire('a'));
    expect(await lock.release()).toBe(true);
    expect(await kit.locks.tryAcquire('a'), 'the next holder still has it').toBeNull();
    expect(released).toHaveLength(1);
    await next.release();
  });

  it('a handle has its key and the time for which its lease certainly lasts', async () => {
    const { locks } = kitForTest({ url: url() });
    const lock = held(await locks.tryAcquire('a', { lease: '1h' }));
    expect(lock.keys).toEqual(['a']);
    expect([...lock.fences]).toEqual([['a', lock.fence]]);
    expect(lock.remainingMs()).toBeGreaterThan(3_000_000);
    expect(lock.remainingMs()).toBeLessThanOrEqual(3_600_000);
    expect(lock.signal.aborted).toBe(false);
    expect(() => lock.assertHeld()).not.toThrow();
    await lock.release();
    expect(lock.remainingMs()).toBe(0);
    expect(() => lock.assertHeld()).toThrow(LockLostError);
    expect(lock.signal.aborted, 'giving it back is no loss').toBe(false);
  });

  it('a lease can be as long as the longest timer, but not longer', async () => {
    const { locks } = kitForTest({ url: url() });
    const lock = held(await locks.tryAcquire('a', { lease: '24d' }));
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    expect(lock.signal.aborted).toBe(false);
    await expect(lock.extend('25d')).rejects.toThrow(/at most 24 days/);
    await lock.release();
  });

  it('an extension restarts the lease with its current duration or with another duration', async () => {
    const { locks } = kitForTest({ url: url() });
    const lock = held(await locks.tryAcquire('a', { lease: '1m', renew: false }));
    expect(await lock.extend('1h')).toBe(true);
    expect(lock.remainingMs()).toBeGreaterThan(3_000_000);
    await lock.extend();
    expect(lock.remainingMs()).toBeGreaterThan(3_000_000);
    await lock.extend(100_000);
    expect(lock.remainingMs()).toBeLessThanOrEqual(100_000);
    for (const lease of [0, -1, 99, '99ms', Number.NaN] as number[]) {
      await expect(lock.extend(lease)).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONFIG' });
    }
    await lock.release();
    expect(await lock.extend()).toBe(false);
  });

  it('the last of several extensions sets the lease, even while a renewal is in flight', async () => {
    stopTime();
    const { locks } = kitForTest({ url: url() });
    // Extensions before, during and after the renewal, which is due after a third of the lease.
    for (let passedMs = 9_996; passedMs <= 10_004; passedMs++) {
      const lock = await locks.acquire('a', { lease: 30_000 });
      await passTime(passedMs);
      await Promise.all([lock.extend('1m'), lock.extend('1h')]);
      expect(lock.remainingMs()).toBe(3_600_000);
      expect((await locks.inspect('a')).expiresInMs).toBe(3_600_000);
      await lock.release();
    }
  });

  it('a lock declared with `await using` is released at the end of its block', async () => {
    const { locks } = kitForTest({ url: url() });
    {
      await using lock = held(await locks.tryAcquire('a'));
      expect(await locks.tryAcquire('a')).toBeNull();
      lock.assertHeld();
    }
    const fail = async () => {
      await using lock = held(await locks.tryAcquire('a'));
      lock.assertHeld();
      throw new Error('on purpose');
    };
    await expect(fail()).rejects.toThrow('on purpose');
    expect(await locks.tryAcquire('a')).not.toBeNull();
  });

  it('a lock that is not renewed ends with its lease: its signal aborts, and the lock is free', async () => {
    const kit = kitForTest({ url: url() });
    const lost = eventsOf(kit, 'lock:lost');
    stopTime();
    const first = held(await kit.locks.tryAcquire('a', { lease: LEASE_MS, renew: false }));
    await passTime(LEASE_MS - 1);
    expect(first.signal.aborted).toBe(false);
    await passTime(1);
    await until('the signal aborts', () => first.signal.aborted);
    expect(first.signal.reason).toMatchObject(LOST);
    expect(lost).toEqual([{ keys: ['a'], error: first.signal.reason }]);
    expect(first.remainingMs()).toBe(0);
    expect(() => first.assertHeld()).toThrow(LockLostError);
    let second: LockHandle | null = null;
    await until('the next one gets it', async () => {
      second = await kit.locks.tryAcquire('a');
      return second !== null;
    });
    expect(held(second).fence).toBeGreaterThan(first.fence);
    expect(await first.extend()).toBe(false);
    expect(await first.release(), 'the first holder cannot release the second one’s lease').toBe(false);
    expect(await kit.locks.tryAcquire('a')).toBeNull();
    expect(await held(second).release()).toBe(true);
  });

  it('the fencing token grows with every grant', async () => {
    const { locks } = kitForTest({ url: url() });
    let last = 0;
    for (let grant = 0; grant < 50; grant++) {
      const lock = held(await locks.tryAcquire('a'));
      expect(lock.fence).toBeGreaterThan(last);
      last = lock.fence;
      await lock.release();
    }
    expect(Number.isSafeInteger(last)).toBe(true);
  });

  it.each([
    ['', "is ''"],
    [undefined, 'is undefined'],
    [7, 'is 7'],
  ])('a call with the invalid key %j is rejected', async (key, part) => {
    const { locks } = kitForTest({ url: url() });
    await expect(locks.tryAcquire(key as string)).rejects.toThrow(part);
  });

  it.each([
    [{ lease: '99ms' }, 'at least 100 ms'],
    [{ lease: '25d' }, 'at most 24 days'],
    [{ renew: 'yes' }, '`renew`'],
    [{ wait: 5 }, 'unknown option `wait`'],
    [{ metadata: () => 5 }, '`metadata`'],
    [{ metadata: 'x'.repeat(4_096) }, 'at most 4096 bytes'],
    [{ fair: 1 }, '`fair`'],
  ])('a call with the invalid options %j is rejected', async (options, part) => {
    const { locks } = kitForTest({ url: url() });
    await expect(locks.tryAcquire('a', options as object)).rejects.toThrow(part);
  });

  it('keys that differ in any character are different locks', async () => {
    const { locks } = kitForTest({ url: url() });
    const ids = ['a', 'A', 'a:b', '{a}', 'a}b', 'ä', '🎉', ' ', '*', 'x'.repeat(500), `${'x'.repeat(500)}y`];
    const attempts = await Promise.all(ids.map((id) => locks.tryAcquire(id)));
    expect(attempts.every((attempt) => attempt !== null)).toBe(true);
    const again = await Promise.all(ids.map((id) => locks.tryAcquire(id)));
    expect(again.every((attempt) => attempt === null)).toBe(true);
  });
});

describe('A lock whose key was deleted or overwritten', () => {
  async function start() {
    const kit = kitForTest({ url: redisUrl() });
    const client: PlainClient = await connectPlainClient(redisUrl());
    onTestFinished(() => client.destroy());
    const lost = eventsOf(kit, 'lock:lost');
    stopTime();
    const lock = held(await kit.locks.tryAcquire('a', { lease: LEASE_MS }));
    const renewed = () => passTime(LEASE_MS / 3);
    return { kit, client, lock, lost, renewed, key: `${kit.prefix}:lock:{a}` };
  }

  it('a lock whose key was deleted is lost: its holder is notified once, and the renewal does not restore the lock', async () => {
    const { client, lock, lost, renewed, key } = await start();
    await client.del(key);
    await renewed();
    await until('the signal aborts', () => lock.signal.aborted);
    expect(lock.signal.reason).toMatchObject(LOST);
    expect(await client.exists(key)).toBe(0);
    expect(await lock.release()).toBe(false);
    expect(lost).toEqual([{ keys: ['a'], error: lock.signal.reason }]);
  });

  it('a lock that passed to another holder is neither renewed nor released by the first holder', async () => {
    const { kit, client, lock, renewed, key } = await start();
    await client.del(key);
    const successor = held(await kit.locks.tryAcquire('a', { lease: '1h' }));
    const value = await client.get(key);
    await renewed();
    await until('the signal aborts', () => lock.signal.aborted);
    expect(await lock.extend()).toBe(false);
    expect(await lock.release()).toBe(false);
    expect(await client.get(key)).toBe(value);
    expect(successor.signal.aborted).toBe(false);
    expect(await successor.release()).toBe(true);
  });

  it('the next holder of a deleted lock gets a higher fencing token, even if the counter was deleted as well', async () => {
    const { kit, client, lock, key } = await start();
    expect(await client.del([key, `${key}:fence`])).toBe(2);
    // Without the counter, only the server's clock makes the token grow.
    await passTime(1);
    const next = held(await kit.locks.tryAcquire('a'));
    expect(next.fence).toBeGreaterThan(lock.fence);
    await next.release();
    await client.set(`${key}:fence`, 'garbage', { PX: 60_000 });
    await passTime(1);
    const third = held(await kit.locks.tryAcquire('a'));
    expect(third.fence).toBeGreaterThan(next.fence);
    await third.release();
    const ahead = third.fence + 10 ** 12;
    await client.set(`${key}:fence`, `1:${ahead}`, { PX: 60_000 });
    expect(held(await kit.locks.tryAcquire('a')).fence).toBe(ahead + 1);
  });
});
