import { describe, expect, it } from 'vitest';
import { WakeUps } from '../../src/waiting/wake-ups.ts';
import { passTime, stopTime } from '../support/time.ts';

/** Waits for a key, and records how many milliseconds the wait took. */
function wait(wakeUps: WakeUps, ms: number) {
  const startedAt = performance.now();
  const waiter = { tookMs: Number.NaN, wakeUp: wakeUps.expect('key') };
  void waiter.wakeUp.wait(ms).then(() => {
    waiter.tookMs = performance.now() - startedAt;
  });
  return waiter;
}

describe('A wake-up', () => {
  it('the waiters of a key are woken by that key only', async () => {
    stopTime();
    const wakeUps = new WakeUps();
    wakeUps.listenerChanged(true);
    const waiters = [wait(wakeUps, 5_000), wait(wakeUps, 5_000)];
    wakeUps.wake('another key');
    await passTime(50);
    wakeUps.wake('key');
    await passTime(0);
    expect(waiters.map(({ tookMs }) => tookMs)).toEqual([50, 50]);
  });

  it('a wake-up that comes before the wait begins ends the wait at once', async () => {
    stopTime();
    const wakeUps = new WakeUps();
    const wakeUp = wakeUps.expect('key');
    wakeUps.wake('key');
    await wakeUp.wait(5_000);
  });

  it('a waiter wakes early when a handoff to another process may have expired', async () => {
    stopTime();
    const wakeUps = new WakeUps();
    wakeUps.listenerChanged(true);
    const waiter = wait(wakeUps, 5_000);
    wakeUps.wakeIn('key', 100);
    await passTime(200);
    expect(waiter.tookMs).toBe(110);
  });

  it('a waiter polls while messages may be lost', async () => {
    stopTime();
    const waiter = wait(new WakeUps(), 5_000);
    await passTime(300);
    expect(waiter.tookMs).toBe(250);
  });

  it('a change of the subscription wakes all waiters', async () => {
    stopTime();
    const wakeUps = new WakeUps();
    const waiter = wait(wakeUps, 5_000);
    await passTime(50);
    wakeUps.listenerChanged(true);
    await passTime(0);
    expect(waiter.tookMs).toBe(50);
  });

  it('a stopped wake-up is no longer woken', async () => {
    stopTime();
    const wakeUps = new WakeUps();
    wakeUps.listenerChanged(true);
    const waiter = wait(wakeUps, 500);
    waiter.wakeUp.stop();
    wakeUps.wake('key');
    await passTime(600);
    expect(waiter.tookMs).toBe(510);
  });
});
