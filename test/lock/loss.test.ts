import { expect, it, onTestFinished, vi } from 'vitest';
import { LockLostError } from '../../src/index.ts';
import { redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { onEveryStore } from '../support/stores.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { subscribe } from './subscribed.ts';

onEveryStore('The loss of a lock', (makeKit) => {
  it('a lock is lost when the wall clock shows that the machine was suspended, even if the steady clock stopped', async () => {
    const kit = makeKit();
    const lost = eventsOf(kit, 'lock:lost');
    const lock = await kit.locks.acquire('a', { lease: '1h' });
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_660_000 });
    onTestFinished(() => void vi.useRealTimers());
    expect(lock.remainingMs()).toBe(0);
    expect(() => lock.assertHeld()).toThrow(LockLostError);
    await until('the signal aborts', () => lock.signal.aborted);
    expect(lost).toEqual([{ keys: ['a'], error: lock.signal.reason }]);
  });

  it('a lock is not lost when the wall clock is set back', async () => {
    const kit = makeKit();
    const lock = await kit.locks.acquire('a', { lease: '1h' });
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 60_000 });
    onTestFinished(() => void vi.useRealTimers());
    expect(lock.remainingMs()).toBeGreaterThan(3_000_000);
    expect(lock.remainingMs()).toBeLessThanOrEqual(3_600_000);
    await lock.extend();
    expect(lock.remainingMs()).toBeLessThanOrEqual(3_600_000);
  });

  it('kit.locks.forceRelease frees a lock at once, and its holder notices the loss with the next renewal', async () => {
    const kit = makeKit();
    stopTime();
    const lock = await kit.locks.acquire('a', { lease: 60_000, metadata: { by: 'ann' } });
    expect(await kit.locks.forceRelease('a')).toBe(true);
    const next = await kit.locks.acquire('a', { lease: '1h' });
    expect(next.fence).toBeGreaterThan(lock.fence);
    expect(lock.signal.aborted).toBe(false);
    await passTime(20_000);
    await until('the signal aborts', () => lock.signal.aborted);
    expect(lock.signal.reason).toBeInstanceOf(LockLostError);
    expect(await lock.release()).toBe(false);
    next.assertHeld();
    expect(await next.release()).toBe(true);
    expect(await kit.locks.forceRelease('a'), 'the lock is free').toBe(false);
  });

  it('kit.locks.forceRelease notifies a subscribed holder at once, and the first waiter gets the lock', async () => {
    const kit = makeKit();
    const first = await kit.locks.acquire('a');
    const second = kit.locks.acquire('a', { lease: '1h', wait: '2m' });
    await until('it waits', async () => (await kit.locks.inspect('a')).waiters === 1);
    await first.release();
    const lock = await second;
    const third = kit.locks.acquire('a', { wait: '2m' });
    await until('it waits', async () => (await kit.locks.inspect('a')).waiters === 1);
    expect(await kit.locks.forceRelease('a')).toBe(true);
    await until('the signal aborts', () => lock.signal.aborted);
    (await third).assertHeld();
  });
});

onEveryStore('kit.locks.inspect', (makeKit) => {
  it('an inspection shows the state, the fencing token, the remaining lease, the waiters and the metadata', async () => {
    const kit = makeKit();
    expect(await kit.locks.inspect('a')).toEqual({ held: false, waiters: 0 });
    const metadata = { by: 'ann:1', 'ä"': [null, 0.5] };
    const lock = await kit.locks.acquire('a', { lease: '1h', metadata });
    const waiting = kit.locks.acquire('a', { wait: '2m', metadata: 'next' });
    await until('it waits', async () => (await kit.locks.inspect('a')).waiters === 1);
    const seen = await kit.locks.inspect('a');
    expect(seen).toEqual({
      held: true,
      fence: lock.fence,
      expiresInMs: expect.any(Number),
      waiters: 1,
      metadata,
    });
    expect(seen.expiresInMs).toBeGreaterThan(3_000_000);
    await lock.extend();
    expect((await kit.locks.inspect('a')).metadata).toEqual(metadata);
    await lock.release();
    await waiting;
    expect((await kit.locks.inspect('a')).metadata).toBe('next');
  });

  it.each(['', 7, undefined, ['a']])('inspect and forceRelease reject the invalid key %j', async (key) => {
    const { locks } = makeKit();
    await expect(locks.inspect(key as string)).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONFIG' });
    await expect(locks.forceRelease(key as string)).rejects.toThrow('kit.locks.forceRelease: the key is');
  });
});

onEveryStore('kit.locks.using', (makeKit) => {
  it('`using` resolves or rejects as its function does, and releases the lock in both cases', async () => {
    const { locks } = makeKit();
    expect(await locks.using('a', {}, (lock) => lock.keys)).toEqual(['a']);
    expect(await locks.using('a', {}, async () => 7)).toBe(7);
    const fail = () => {
      throw new Error('on purpose');
    };
    await expect(locks.using('a', {}, fail)).rejects.toThrow('on purpose');
    expect(await locks.tryAcquire('a')).not.toBeNull();
  });

  it('`using` resolves to the result of its function even if the lock was lost while the function ran', async () => {
    const { locks } = makeKit();
    const result = await locks.using('a', { lease: '200ms', renew: false }, async (lock) => {
      await until('it is lost', () => lock.signal.aborted);
      return 'done all the same';
    });
    expect(result).toBe('done all the same');
  });

  it('`using` rejects a call without a function', async () => {
    const { locks } = makeKit();
    await expect(locks.using('a', {}, 'work' as never)).rejects.toThrow("the work is 'work'");
    await expect(locks.using('a', { waite: 1 } as never, () => 1)).rejects.toThrow('did you mean `wait`?');
    await expect(locks.using('a', { signal: 1 } as never, () => 1)).rejects.toThrow('an AbortSignal');
  });
});

onEveryStore('Closing the kit', (makeKit) => {
  it('closing the kit rejects waiters, and waits for holders', async () => {
    const kit = makeKit();
    await subscribe(kit);
    stopTime();
    const lock = await kit.locks.acquire('a', { lease: 60_000 });
    const waiting = kit.locks.acquire('a', { wait: '2m' });
    await until('it waits', async () => (await kit.locks.inspect('a')).waiters === 1);
    let isClosed = false;
    const closed = kit.close({ timeout: '1h' }).then(() => {
      isClosed = true;
    });
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CLOSED' });
    await expect(kit.locks.tryAcquire('b')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CLOSED' });
    // Longer than the lease, so that the lock must have been renewed.
    for (let third = 1; third <= 4; third++) {
      await passTime(20_000);
      await until('it is renewed', () => lock.remainingMs() === 60_000);
    }
    expect(isClosed).toBe(false);
    lock.assertHeld();
    expect(await lock.release()).toBe(true);
    await closed;
    await kit.close();
  });

  it('two concurrent calls of close both resolve as soon as no lock is held', async () => {
    const kit = makeKit();
    const lock = await kit.locks.acquire('a');
    const elapsedMs = stopwatch();
    const closed = Promise.all([kit.close({ timeout: '1m' }), kit.close({ timeout: '1m' })]);
    await lock.release();
    await closed;
    expect(elapsedMs()).toBeLessThan(10_000);
  });

  it('closing the kit takes no longer than its timeout, and does not release a lock that is in use', async () => {
    const prefix = testPrefix();
    const kit = makeKit({ prefix });
    const lock = await kit.locks.acquire('a', { lease: '1s' });
    const elapsedMs = stopwatch();
    await kit.close({ timeout: '100ms' });
    expect(elapsedMs()).toBeLessThan(5_000);
    await until('its lease ends', () => lock.signal.aborted);
    expect(await lock.release()).toBe(false);
  });
});

it('a lock that is not released before its kit closes is still held in Redis', async () => {
  const prefix = testPrefix();
  const [kit, other] = [kitForTest({ url: redisUrl(), prefix }), kitForTest({ url: redisUrl(), prefix })];
  await kit.locks.acquire('a', { lease: '1h' });
  await kit.close({ timeout: '100ms' });
  expect((await other.locks.inspect('a')).held).toBe(true);
});
