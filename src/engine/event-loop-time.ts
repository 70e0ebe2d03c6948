import { performance } from 'node:perf_hooks';

/** A longer time between two ticks means that the event loop was blocked. */
const MAX_STEP_MS = 50;

let tickedAt = performance.now();
let blockedMs = 0;

/**
 * A clock on which a blocked event loop advances by one step only: while it is blocked the process can neither send nor
 * receive, so that time must not count against Redis. It measures only waits during which the clock is ticked.
 */
export function eventLoopTimeMs(): number {
  const now = performance.now();
  return now - blockedMs - excess(now);
}

/** To be called every few milliseconds while anything waits. */
export function tickEventLoopTime(): void {
  const now = performance.now();
  blockedMs += excess(now);
  tickedAt = now;
}

function excess(now: number): number {
  return Math.max(0, now - tickedAt - MAX_STEP_MS);
}
