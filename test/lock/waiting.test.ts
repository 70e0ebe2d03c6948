import { expect, it } from 'vitest';
import { type LockHandle, LockTimeoutError, type RedisKit } from '../../src/index.ts';
import { redisUrl } from '../support/context.ts';
import { describeOnBothEngines, eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { onEveryStore } from '../support/stores.ts';
import { passTime, passTimeUntilSettled, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { subscribe } from './subscribed.ts';

/** Long enough for a loaded machine; no wait lasts this long unless a test fails. */
const LONG = '2m';

async function waitersOf(kit: RedisKit, key: string, count: number): Promise<void> {
  await until(`${count} wait for ${key}`, async () => (await kit.locks.inspect(key)).waiters === count);
}

onEveryStore('A lock with waiters', (makeKit) => {
  it('a lock goes from waiter to waiter, first come, first served', async () => {
    const kit = makeKit();
    const first = await kit.locks.acquire('a');
    const order: number[] = [];
    const others = [];
    for (let place = 0; place < 8; place++) {
      others.push(
        kit.locks.using('a', { wait: LONG }, (lock) => {
          lock.assertHeld();
          order.push(place);
        }),
      );
      await waitersOf(kit, 'a', place + 1);
    }
    await first.release();
    await Promise.all(others);
    expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(await kit.locks.inspect('a')).toEqual({ held: false, waiters: 0 });
  });

  it('each handoff has a higher fencing token, and no other caller is granted the lock in between', async () => {
    const kit = makeKit();
    const fences: number[] = [];
    const work = () =>
      kit.locks.using('a', { wait: LONG }, async (lock) => {
        fences.push(lock.fence);
        expect(await kit.locks.tryAcquire('b')).not.toBeNull();
        await new Promise((resolve) => setImmediate(resolve));
        expect(fences.at(-1), 'no other grant in between').toBe(lock.fence);
        await (await kit.locks.inspect('b')).held;
        await kit.locks.forceRelease('b');
      });
    await Promise.all(Array.from({ length: 20 }, work));
    expect(fences).toEqual([...new Set(fences)].sort((a, b) => a - b));
    expect(fences).toHaveLength(20);
  });

  it('a waiter whose turn does not come within `wait` is refused and leaves the queue', async () => {
    const kit = makeKit();
    const refused = eventsOf(kit, 'lock:refused');
    const first = await kit.locks.acquire('a');
    const error = await kit.locks.acquire('a', { wait: '150ms' }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(LockTimeoutError);
    expect(error).toMatchObject({ code: 'ERR_REDIS_KIT_LOCK_TIMEOUT', status: 503, key: 'a' });
    await waitersOf(kit, 'a', 0);
    expect(refused).toEqual([{ keys: ['a'] }]);
    await expect(kit.locks.acquire('a', { wait: 0 })).rejects.toThrow(LockTimeoutError);
    await first.release();
    expect(await kit.locks.tryAcquire('a')).not.toBeNull();
  });

  it('a waiter that gives up is skipped', async () => {
    const kit = makeKit();
    await subscribe(kit);
    stopTime();
    const first = await kit.locks.acquire('a');
    const impatient = new AbortController();
    const aborted = kit.locks.acquire('a', { wait: LONG, signal: impatient.signal });
    await waitersOf(kit, 'a', 1);
    const short = kit.locks.acquire('a', { wait: '200ms' });
    await waitersOf(kit, 'a', 2);
    const patient = kit.locks.acquire('a', { wait: LONG });
    await waitersOf(kit, 'a', 3);
    impatient.abort(new Error('changed my mind'));
    await expect(aborted).rejects.toThrow('changed my mind');
    await passTime(300);
    await expect(short).rejects.toThrow(LockTimeoutError);
    await waitersOf(kit, 'a', 1);
    await first.release();
    expect(await (await patient).release()).toBe(true);
  });

  it('a caller whose signal has aborted already does not ask for the lock', async () => {
    const kit = makeKit();
    const signal = AbortSignal.abort(new Error('too late'));
    await expect(kit.locks.acquire('a', { signal })).rejects.toThrow('too late');
    expect(await kit.locks.tryAcquire('a')).not.toBeNull();
  });

  it('the event lock:waited has the duration of the wait', async () => {
    const kit = makeKit();
    const [waited, acquired] = [eventsOf(kit, 'lock:waited'), eventsOf(kit, 'lock:acquired')];
    const first = await kit.locks.acquire('a');
    expect(waited).toEqual([]);
    const second = kit.locks.acquire('a', { wait: LONG });
    await waitersOf(kit, 'a', 1);
    await first.release();
    await second;
    expect(waited).toEqual([{ keys: ['a'], waitedMs: expect.any(Number) }]);
    expect(acquired).toHaveLength(2);
  });

  it('a waiter gets the lock when the lease of the holder ends', async () => {
    const kit = makeKit();
    await subscribe(kit);
    stopTime();
    const first = await kit.locks.acquire('a', { lease: 60_000, renew: false });
    const asked = kit.locks.acquire('a', { wait: LONG });
    await waitersOf(kit, 'a', 1);
    await passTime(59_000);
    const second = await passTimeUntilSettled(asked);
    expect(second.fence).toBeGreaterThan(first.fence);
    expect(await first.release(), 'the late release takes nothing away').toBe(false);
    expect((await kit.locks.inspect('a')).fence).toBe(second.fence);
  });

  it('a new caller does not overtake a waiter', async () => {
    const kit = makeKit();
    const first = await kit.locks.acquire('a');
    const second = kit.locks.acquire('a', { wait: LONG });
    await waitersOf(kit, 'a', 1);
    const released = first.release();
    const newcomer = kit.locks.tryAcquire('a');
    await released;
    expect(await newcomer).toBeNull();
    expect(await kit.locks.tryAcquire('a')).toBeNull();
    await second;
  });

  it('concurrent callers with fair: false all get the lock', async () => {
    const kit = makeKit();
    let runs = 0;
    const work = () =>
      kit.locks.using('a', { wait: LONG, fair: false }, async (lock) => {
        await kit.locks.inspect('a');
        lock.assertHeld();
        runs++;
      });
    await Promise.all(Array.from({ length: 30 }, work));
    expect(runs).toBe(30);
    expect(await kit.locks.inspect('a')).toEqual({ held: false, waiters: 0 });
  });

  it('the next waiter is woken when the waiter that was woken for an unfair lock gives up', async () => {
    const { locks } = makeKit();
    const options = { fair: false, wait: LONG, lease: '1h' } as const;
    const waiters = (count: number) =>
      until(`${count} wait`, async () => (await locks.inspect('a')).waiters === count);
    const held = await locks.acquire('a', options);
    const leaving = new AbortController();
    const first = locks.acquire('a', { ...options, signal: leaving.signal }).catch(() => 'gave up');
    await waiters(1);
    const second = locks.acquire('a', options);
    await waiters(2);
    const elapsedMs = stopwatch();
    const released = held.release();
    leaving.abort();
    expect([await released, await first]).toEqual([true, 'gave up']);
    await (await second).release();
    expect(elapsedMs()).toBeLessThan(10_000);
  });

  it('fair and unfair callers can share a lock', async () => {
    const kit = makeKit();
    let [inside, runs] = [0, 0];
    const work = (fair: boolean) =>
      kit.locks.using('a', { wait: LONG, fair }, async () => {
        expect(++inside).toBe(1);
        await kit.locks.inspect('a');
        inside--;
        runs++;
      });
    await Promise.all(Array.from({ length: 30 }, (_, index) => work(index % 2 === 0)));
    expect(runs).toBe(30);
  });
});

it('a queue without waiters is deleted from Redis', async () => {
  const kit = kitForTest({ url: redisUrl() });
  await kit.locks.acquire('a');
  await expect(kit.locks.acquire('a', { wait: '100ms' })).rejects.toThrow(LockTimeoutError);
  await withPlainClient(redisUrl(), (client) =>
    until('the queue is deleted', async () => (await client.exists(`${kit.prefix}:lock:{a}:line`)) === 0),
  );
});

describeOnBothEngines('a lock of two kits', (url) => {
  it('a lock is handed off from one process to another', async () => {
    const server = url();
    if (server === 'memory:') return;
    const prefix = testPrefix();
    const kits = [1, 2, 3].map(() => kitForTest({ url: server, prefix }));
    let [inside, runs] = [0, 0];
    const work = (kit: RedisKit) =>
      kit.locks.using('a', { wait: LONG }, async () => {
        expect(++inside).toBe(1);
        await kit.locks.inspect('a');
        inside--;
        runs++;
      });
    await Promise.all(Array.from({ length: 60 }, (_, index) => work(kits[index % 3] as RedisKit)));
    expect(runs).toBe(60);
  });
});

/** Adds waiters of a dead process to the queue: they never ask again. */
async function joinAsDead(kit: RedisKit, process: string, tokens: readonly string[]): Promise<void> {
  await withPlainClient(redisUrl(), async (client) => {
    const now = Date.now() * 1_000;
    const members = tokens.map((token, index) => ({
      score: now + index,
      value: `${token}:${process}:60000`,
    }));
    await client.zAdd(`${kit.prefix}:lock:{a}:line`, members);
    await client.pExpire(`${kit.prefix}:lock:{a}:line`, 60_000);
  });
}

describeOnBothEngines('the dead', (url) => {
  it('a queue with any number of dead waiters at its front delays the next waiter by about a second', async () => {
    if (url() === 'memory:') return;
    const kit = kitForTest({ url: url() });
    const first = await kit.locks.acquire('a', { lease: '30s' });
    await joinAsDead(
      kit,
      'gone',
      Array.from({ length: 20 }, (_, index) => `dead${index}`),
    );
    const living = kit.locks.acquire('a', { wait: LONG });
    await waitersOf(kit, 'a', 21);
    const releasedAt = performance.now();
    const elapsedMs = stopwatch();
    await first.release();
    await (await living).release();
    expect(performance.now() - releasedAt).toBeGreaterThan(900);
    expect(elapsedMs()).toBeLessThan(5_000);
    expect(await kit.locks.inspect('a')).toEqual({ held: false, waiters: 0 });
  });

  it('a new caller waits behind dead waiters, and a caller with fair: false overtakes them', async () => {
    if (url() === 'memory:') return;
    const kit = kitForTest({ url: url() });
    await joinAsDead(kit, 'gone', ['dead']);
    expect(await kit.locks.tryAcquire('a')).toBeNull();
    await until('the handoff is over', async () => !(await kit.locks.inspect('a')).held);
    await joinAsDead(kit, 'gone', ['dead']);
    expect(await kit.locks.tryAcquire('a', { fair: false })).not.toBeNull();
  });

  it('a handoff to a dead waiter delays a new caller by a second at most', async () => {
    if (url() === 'memory:') return;
    stopTime();
    const kit = kitForTest({ url: url() });
    const first = await kit.locks.acquire('a');
    await joinAsDead(kit, 'gone', ['dead']);
    await first.release();
    await passTime(999);
    expect(await kit.locks.tryAcquire('a')).toBeNull();
    expect(await kit.locks.inspect('a')).toEqual({ held: true, expiresInMs: expect.any(Number), waiters: 0 });
    await passTime(1);
    expect(await kit.locks.tryAcquire('a')).not.toBeNull();
  });

  it.each(['gone lost living', 'gone gone living gone', 'gone lost shot gone lost living shot lost gone'])(
    'in a queue of the processes "%s", the living waiter gets the lock',
    async (order) => {
      if (url() === 'memory:') return;
      const kit = kitForTest({ url: url() });
      await subscribe(kit);
      stopTime();
      // A waiter that is not woken waits for as long as this lease.
      const first = await kit.locks.acquire('a', { lease: '1h' });
      let living: Promise<LockHandle> | undefined;
      for (const [index, process] of order.split(' ').entries()) {
        await passTime(1);
        if (process === 'living') living = kit.locks.acquire('a', { wait: '1h' });
        else await joinAsDead(kit, process, [`dead${index}`]);
        await waitersOf(kit, 'a', index + 1);
      }
      await first.release();
      expect(await (await passTimeUntilSettled(living ?? expect.unreachable())).release()).toBe(true);
    },
  );

  it('the waiters of a process do not wait for one of them whose wait ends during the handoff', async () => {
    if (url() === 'memory:') return;
    const kit = kitForTest({ url: url() });
    await subscribe(kit);
    stopTime();
    const first = await kit.locks.acquire('a', { lease: '1h' });
    await joinAsDead(kit, 'gone', ['dead']);
    const hasty = kit.locks.acquire('a', { wait: '500ms' });
    await waitersOf(kit, 'a', 2);
    const patient = kit.locks.acquire('a', { wait: '1h' });
    await waitersOf(kit, 'a', 3);
    await first.release();
    await expect(passTimeUntilSettled(hasty)).rejects.toThrow(LockTimeoutError);
    await (await passTimeUntilSettled(patient)).release();
  });
});
