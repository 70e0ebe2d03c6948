import { onTestFinished, vi } from 'vitest';
import { steadyNow } from './stopwatch.ts';
import { until } from './until.ts';

let isStopped = false;

/**
 * Stops the clock of this process until the test is over: `Date` moves on by `passTime` only. What a kit of `kitForTest`
 * stores ages by that clock on every store, because its scripts are given the time of this process.
 */
export function stopClock(): void {
  stop(['Date']);
}

/**
 * Stops `setTimeout` and `performance.now()` as well, so that renewals and waits are due by `passTime` only. Intervals go
 * on, because the deadlines of commands count them: time that a test passes makes no answer late.
 */
export function stopTime(): void {
  if (isStopped) throw new Error('the clock is stopped already; stop the time before it');
  const [steady, wall] = [steadyNow(), Date.now()];
  stop(['Date', 'setTimeout', 'clearTimeout']);
  vi.spyOn(performance, 'now').mockImplementation(() => steady + Date.now() - wall);
}

/** Moves the stopped clock on; timers that become due run on the way. */
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

/** The clock and the timers of the system again, for what ends a test. */
export function resumeTime(): void {
  if (!isStopped) return;
  isStopped = false;
  vi.useRealTimers();
  if (vi.isMockFunction(performance.now)) vi.mocked(performance.now).mockRestore();
}

/** The time that scripts are given; undefined where they use the clock of the server. */
export function timeOfScripts(): number | undefined {
  return isStopped ? Date.now() : undefined;
}

function stop(toFake: NonNullable<Parameters<typeof vi.useFakeTimers>[0]>['toFake']): void {
  if (isStopped) return;
  vi.useFakeTimers({ toFake, now: Date.now() });
  isStopped = true;
  onTestFinished(resumeTime);
}
