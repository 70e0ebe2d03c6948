import { onTestFinished, vi } from 'vitest';
import { alarms } from '../../src/waiting/alarm.ts';
import { steadyNow } from './stopwatch.ts';
import { until } from './until.ts';

let isStopped = false;

/**
 * Stops the clock of this process until the test ends: only `passTime` advances `Date`. Data of a kit of `kitForTest` ages by
 * this clock on Redis too, because its scripts receive the time of this process.
 */
export function stopClock(): void {
  stop(['Date']);
}

/**
 * Stops `setTimeout` and `performance.now()` as well, so that only `passTime` makes renewals and waits due. Intervals continue,
 * because they measure the timeouts of commands: passing time makes no reply late.
 */
export function stopTime(): void {
  if (isStopped) throw new Error('the clock is stopped already; stop the time before it');
  const [steady, wall] = [steadyNow(), Date.now()];
  stop(['Date', 'setTimeout', 'clearTimeout']);
  vi.spyOn(performance, 'now').mockImplementation(() => steady + Date.now() - wall);
  // The timer of alarms that are set already is Node's.
  alarms.restart();
}

/** Advances the stopped clock, and runs the timers that become due. */
export async function passTime(ms: number): Promise<void> {
  if (!isStopped) throw new Error('time passes by itself; stop it before');
  await vi.advanceTimersByTimeAsync(ms);
}

/** Passes time in small steps until the promise settles. */
export async function passTimeUntilSettled<Value>(promise: Promise<Value>, stepMs = 20): Promise<Value> {
  let isSettled = false;
  const settled = () => {
    isSettled = true;
  };
  promise.then(settled, settled);
  await until('the promise settles', async () => {
    await passTime(stepMs);
    return isSettled;
  });
  return promise;
}

/** Restores the clock and the timers of the system, for the cleanup of a test. */
export function resumeTime(): void {
  if (!isStopped) return;
  isStopped = false;
  vi.useRealTimers();
  if (vi.isMockFunction(performance.now)) vi.mocked(performance.now).mockRestore();
  alarms.restart();
}

/** The time that scripts receive; undefined for the server's clock. */
export function timeOfScripts(): number | undefined {
  return isStopped ? Date.now() : undefined;
}

function stop(toFake: NonNullable<Parameters<typeof vi.useFakeTimers>[0]>['toFake']): void {
  if (isStopped) return;
  vi.useFakeTimers({ toFake, now: Date.now() });
  isStopped = true;
  onTestFinished(resumeTime);
}
