import { setTimeout as pause } from 'node:timers/promises';

const PAUSE_MS = 20;

/**
 * Asks again and again until the answer is true, for facts that nothing announces. An error of `isTrue` ends the
 * wait at once. `deadlineMs` (default 10 s) is long because a loaded machine is slow, and costs nothing otherwise.
 */
export async function until(
  what: string,
  isTrue: () => boolean | Promise<boolean>,
  deadlineMs = 10_000,
): Promise<void> {
  const end = performance.now() + deadlineMs;
  while (!(await isTrue())) {
    if (performance.now() > end) throw new Error(`after ${deadlineMs} ms it is still not true that ${what}`);
    await pause(PAUSE_MS);
  }
}
