import { performance } from 'node:perf_hooks';

/** With more than this between two ticks the event loop stood still. */
const MAX_STEP_MS = 50;

let tickedAt = performance.now();
let stoodStillMs = 0;

/**
 * Milliseconds as the event loop lived them: a stretch in which it was blocked counts as one step, since nothing
 * could be sent or heard in it. It goes on only while somebody ticks, so it measures only waits that do.
 */
export function loopNow(): number {
  const now = performance.now();
  return now - stoodStillMs - surplus(now);
}

/** Called by whoever waits, every few milliseconds. */
export function loopTick(): void {
  const now = performance.now();
  stoodStillMs += surplus(now);
  tickedAt = now;
}

function surplus(now: number): number {
  return Math.max(0, now - tickedAt - MAX_STEP_MS);
}
