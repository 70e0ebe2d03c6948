import { setTimeout as pause } from 'node:timers/promises';
import { stopwatch } from './stopwatch.ts';

const PAUSE_MS = 20;

/**
 * Asks again and again until the answer is true, for facts that nothing announces. An error of `isTrue` ends the
 * wait at once. `deadlineMs` (default 60 s) is for what hangs; it does not count the time in
 * which the machine gave this process no turn.
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
