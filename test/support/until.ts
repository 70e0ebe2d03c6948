import { setTimeout as pause } from 'node:timers/promises';
import { stopwatch } from './stopwatch.ts';

const PAUSE_MS = 20;

/**
 * Polls until `isTrue` returns true, for facts that no event announces. Rejects with an error of `isTrue` at once, and after
 * `deadlineMs` (default 60 s), which does not count the time in which the machine did not run this process.
 */
export async function until(
  what: string,
  isTrue: () => boolean | Promise<boolean>,
  deadlineMs = 60_000,
): Promise<void> {
  const elapsedMs = stopwatch();
  while (!(await isTrue())) {
    if (elapsedMs() > deadlineMs) throw new Error(`after ${deadlineMs} ms it is still not true that ${what}`);
    await pause(PAUSE_MS);
  }
}
