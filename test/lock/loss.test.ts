import { expect, it, onTestFinished, vi } from 'vitest';
import { LockLostError } from '../../src/index.ts';
import { redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { onEveryStore } from '../support/stores.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { listensForCalls } from './listens.ts';

onEveryStore('the loss of a lock', (makeKit) => {
  it('is told when the wall clock says that the machine was suspended, whatever the steady one says', async () => {
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

  it('is not told for a wall clock that was set back', async () => {
    const kit = makeKit();
    const lock = await kit.locks.acquire('a', { lease: '1h' });
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 60_000 });
    onTestFinished(() => void vi.useRealTimers());
    expect(lock.remainingMs()).toBeGreaterThan(3_000_000);
    expect(lock.remainingMs()).toBeLessThanOrEqual(3_600_000);
    await lock.extend();
    expect(lock.remainingMs()).toBeLessThanOrEqual(3_600_000);
  });

  it('by force is told with the next renewal, and the lock is another’s at once', async () => {
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
    expect(await kit.locks.forceRelease('a'), 'nobody has it').toBe(false);
  });

  it('by force is told at once where the process listens, and the first who waits gets the lock', async () => {
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

onEveryStore('who looks at a lock', (makeKit) => {
  it('sees whether it is held, by what fence, for how long, who waits, and what the holder says of itself', async () => {
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

  it.each(['', 7, undefined, ['a']])('must say at which: %j is none', async (key) => {
    const { locks } = makeKit();
    await expect(locks.inspect(key as string)).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONFIG' });
    await expect(locks.forceRelease(key as string)).rejects.toThrow('kit.locks.forceRelease: the key is');
  });
});

onEveryStore('kit.locks.using', (makeKit) => {
  it('gives what the work gives, and frees the lock whatever comes of it', async () => {
    const { locks } = makeKit();
    expect(await locks.using('a', {}, (lock) => lock.keys)).toEqual(['a']);
    expect(await locks.using('a', {}, async () => 7)).toBe(7);
    const fail = () => {
      throw new Error('on purpose');
    };
    await expect(locks.using('a', {}, fail)).rejects.toThrow('on purpose');
    expect(await locks.tryAcquire('a')).not.toBeNull();
  });

  it('gives the result also when the lock was lost meanwhile', async () => {
    const { locks } = makeKit();
    const result = await locks.using('a', { lease: '200ms', renew: false }, async (lock) => {
      await until('it is lost', () => lock.signal.aborted);
      return 'done all the same';
    });
    expect(result).toBe('done all the same');
  });

  it('wants a function', async () => {
    const { locks } = makeKit();
    await expect(locks.using('a', {}, 'work' as never)).rejects.toThrow("the work is 'work'");
    await expect(locks.using('a', { waite: 1 } as never, () => 1)).rejects.toThrow('did you mean `wait`?');
    await expect(locks.using('a', { signal: 1 } as never, () => 1)).rejects.toThrow('an AbortSignal');
  });
});

onEveryStore('closing the kit', (makeKit) => {
  it('refuses who waits, and waits for who holds', async () => {
    const kit = makeKit();
    await listensForCalls(kit);
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
    // Longer than the lease: it is renewed all the while.
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

  it('twice at once ends for both as soon as nothing is held', async () => {
    const kit = makeKit();
    const lock = await kit.locks.acquire('a');
    const elapsedMs = stopwatch();
    const closed = Promise.all([kit.close({ timeout: '1m' }), kit.close({ timeout: '1m' })]);
    await lock.release();
    await closed;
    expect(elapsedMs()).toBeLessThan(10_000);
  });

  it('takes no longer than its timeout, and never frees what is worked under', async () => {
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

it('a lock is still held in Redis after its kit was closed under it', async () => {
  const prefix = testPrefix();
  const [kit, other] = [kitForTest({ url: redisUrl(), prefix }), kitForTest({ url: redisUrl(), prefix })];
  await kit.locks.acquire('a', { lease: '1h' });
  await kit.close({ timeout: '100ms' });
  expect((await other.locks.inspect('a')).held).toBe(true);
});
