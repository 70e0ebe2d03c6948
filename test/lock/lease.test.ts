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
  it('is held by one at a time, and free after its release', async () => {
    const { locks } = kitForTest({ url: url() });
    const first = held(await locks.tryAcquire('a'));
    expect(await locks.tryAcquire('a')).toBeNull();
    expect(await locks.tryAcquire('b')).not.toBeNull();
    expect(await first.release()).toBe(true);
    expect(await locks.tryAcquire('a')).not.toBeNull();
  });

  it('is granted to one of fifty who ask at once', async () => {
    const { locks } = kitForTest({ url: url() });
    const attempts = await Promise.all(Array.from({ length: 50 }, () => locks.tryAcquire('a')));
    expect(attempts.filter((attempt) => attempt !== null)).toHaveLength(1);
  });

  it('is released once, however often one asks for it', async () => {
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

  it('says what it holds, and for how long surely', async () => {
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

  it('may be held for as long as a timer can wait, and no longer', async () => {
    const { locks } = kitForTest({ url: url() });
    const lock = held(await locks.tryAcquire('a', { lease: '24d' }));
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    expect(lock.signal.aborted).toBe(false);
    await expect(lock.extend('25d')).rejects.toThrow(/at most 24 days/);
    await lock.release();
  });

  it('is extended from now on, by its own length or another', async () => {
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

  it('is extended by what was asked last, also while it is renewed', async () => {
    stopTime();
    const { locks } = kitForTest({ url: url() });
    // Before, with and after the renewal, which is due after a third of the lease.
    for (let passedMs = 9_996; passedMs <= 10_004; passedMs++) {
      const lock = await locks.acquire('a', { lease: 30_000 });
      await passTime(passedMs);
      await Promise.all([lock.extend('1m'), lock.extend('1h')]);
      expect(lock.remainingMs()).toBe(3_600_000);
      expect((await locks.inspect('a')).expiresInMs).toBe(3_600_000);
      await lock.release();
    }
  });

  it('is given back where its block ends, by await using', async () => {
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

  it('that is not renewed ends with its lease, which its holder is told and the next one profits from', async () => {
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

  it('has a fence that grows with every grant', async () => {
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
  ])('has no key %j', async (key, part) => {
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
  ])('has no options %j', async (options, part) => {
    const { locks } = kitForTest({ url: url() });
    await expect(locks.tryAcquire('a', options as object)).rejects.toThrow(part);
  });

  it('of any spelling is a lock of its own', async () => {
    const { locks } = kitForTest({ url: url() });
    const ids = ['a', 'A', 'a:b', '{a}', 'a}b', 'ä', '🎉', ' ', '*', 'x'.repeat(500), `${'x'.repeat(500)}y`];
    const attempts = await Promise.all(ids.map((id) => locks.tryAcquire(id)));
    expect(attempts.every((attempt) => attempt !== null)).toBe(true);
    const again = await Promise.all(ids.map((id) => locks.tryAcquire(id)));
    expect(again.every((attempt) => attempt === null)).toBe(true);
  });
});

describe('a lock whose key was taken away', () => {
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

  it('is lost: its holder is told, once, and does not take it back', async () => {
    const { client, lock, lost, renewed, key } = await start();
    await client.del(key);
    await renewed();
    await until('the signal aborts', () => lock.signal.aborted);
    expect(lock.signal.reason).toMatchObject(LOST);
    expect(await client.exists(key)).toBe(0);
    expect(await lock.release()).toBe(false);
    expect(lost).toEqual([{ keys: ['a'], error: lock.signal.reason }]);
  });

  it('and by another holder is neither renewed nor released by the first', async () => {
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

  it('gives its next holder a higher fence, also when the counter is gone too', async () => {
    const { kit, client, lock, key } = await start();
    expect(await client.del([key, `${key}:fence`])).toBe(2);
    // What is left to tell the grants apart is the clock.
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
