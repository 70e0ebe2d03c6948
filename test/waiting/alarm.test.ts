import { AsyncLocalStorage } from 'node:async_hooks';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { Alarm } from '../../src/waiting/alarm.ts';
import { passTime, stopTime } from '../support/time.ts';

/** Stops the time, and creates alarms that record when they were due, in milliseconds from now. */
function alarmsFromNow() {
  stopTime();
  const startedAt = performance.now();
  const rung: [name: unknown, ms: number][] = [];
  const alarm = (name: unknown, then: () => void = () => undefined) => {
    const made = new Alarm({
      due: () => {
        rung.push([name, performance.now() - startedAt]);
        then();
      },
    });
    onTestFinished(() => made.clear());
    return made;
  };
  return { rung, alarm, at: (ms: number) => startedAt + ms };
}

describe('An alarm', () => {
  it('alarms are due in the order of their times, each at its time', async () => {
    const { rung, alarm, at } = alarmsFromNow();
    const times = [50, 10, 40, 20, 30, 10, 60];
    for (const ms of times) alarm(ms).set(at(ms));
    await passTime(55);
    expect(rung).toEqual([10, 10, 20, 30, 40, 50].map((ms) => [ms, ms]));
  });

  it('an alarm that was cleared or set again is not due at its former time', async () => {
    const { rung, alarm, at } = alarmsFromNow();
    const [cleared, later, earlier] = [alarm('cleared'), alarm('later'), alarm('earlier')];
    for (const each of [cleared, later, earlier]) each.set(at(100));
    cleared.clear();
    later.set(at(200));
    earlier.set(at(50));
    await passTime(1_000);
    expect(rung).toEqual([
      ['earlier', 50],
      ['later', 200],
    ]);
  });

  it('an alarm that is set to the past is due at once, by a timer without a negative duration', async () => {
    const { rung, alarm, at } = alarmsFromNow();
    const setTimer = vi.spyOn(globalThis, 'setTimeout');
    onTestFinished(() => setTimer.mockRestore());
    alarm('late').set(at(-5));
    await passTime(1);
    expect(rung.map(([name]) => name)).toEqual(['late']);
    expect(Math.min(...setTimer.mock.calls.map(([, ms = 0]) => ms))).toBeGreaterThanOrEqual(0);
  });

  it('any of many alarms can be cleared, and the others keep their order', async () => {
    const { rung, alarm, at } = alarmsFromNow();
    const all = Array.from({ length: 500 }, (_, index) => {
      const ms = 2 + ((index * 7_919) % 500) * 2;
      const each = alarm(ms);
      each.set(at(ms));
      return { ms, each };
    });
    const kept = all.filter(({ each }, index) => {
      if (index % 3 === 0) return true;
      each.clear();
      return false;
    });
    await passTime(1_100);
    const expected = kept.map(({ ms }) => ms).sort((a, b) => a - b);
    expect(rung).toEqual(expected.map((ms) => [ms, ms]));
  });

  it('ten thousand alarms need one timer, and no timer when none is set', () => {
    stopTime();
    const timers = () => vi.getTimerCount();
    const before = timers();
    const all = Array.from({ length: 10_000 }, (_, index) => {
      const alarm = new Alarm({ due: () => undefined });
      alarm.set(performance.now() + 15_000 - index);
      return alarm;
    });
    expect(timers() - before).toBe(1);
    for (const alarm of all) alarm.clear();
    expect(timers() - before).toBe(0);
  });

  it('an alarm that its own task sets to a moment in the past is not due at once, but two milliseconds later', async () => {
    const { rung, alarm, at } = alarmsFromNow();
    const again: Alarm = alarm('again', () => again.set(at(-1_000)));
    again.set(at(10));
    await passTime(13);
    expect(rung).toEqual([10, 12].map((ms) => ['again', ms]));
    again.clear();
  });

  it('a task that clears another alarm that is due prevents its call', async () => {
    const { rung, alarm, at } = alarmsFromNow();
    const second = alarm('second');
    alarm('first', () => second.clear()).set(at(10));
    second.set(at(10));
    await passTime(100);
    expect(rung).toEqual([['first', 10]]);
  });

  it('a task runs outside of the async context in which its alarm was set', async () => {
    stopTime();
    const context = new AsyncLocalStorage<string>();
    onTestFinished(() => context.disable());
    const seen: unknown[] = [];
    context.run('request', () => {
      new Alarm({ due: () => void seen.push(context.getStore()) }).set(performance.now() + 10);
    });
    await passTime(10);
    expect(seen).toEqual([undefined]);
  });
});
