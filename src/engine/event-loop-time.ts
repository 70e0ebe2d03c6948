import { performance } from 'node:perf_hooks';

/** If more time than this is between two ticks, the event loop was blocked. */
const MAX_STEP_MS = 50;

let tickedAt = performance.now();
let blockedMs = 0;

/**
 * A clock that advances by at most `MAX_STEP_MS` while the event loop is blocked: a blocked process can neither send
 * nor receive, so that time must not be charged to Redis. The clock is right only while `tickEventLoopTime()` is
 * called.
 */
export function eventLoopTimeMs(): number {
  const now = performance.now();
  return now - blockedMs - excess(now);
}

/** Must be called every few milliseconds while anything is timed with `eventLoopTimeMs()`. */
export function tickEventLoopTime(): void {
  const now = performance.now();
  blockedMs += excess(now);
  tickedAt = now;
}

function excess(now: number): number {
  return Math.max(0, now - tickedAt - MAX_STEP_MS);
}
