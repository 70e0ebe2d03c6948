/** The real monotonic clock, even while a test has stopped the time. */
export const steadyNow = performance.now.bind(performance);

const TICK_MS = 10;
const MOST_PER_TICK_MS = 20;

let tickedAt = steadyNow();
let runningMs = 0;

/**
 * Measures a duration for upper bounds, without the time in which the machine did not run this process: such a gap counts
 * as one tick. Returns a function that returns the milliseconds so far.
 */
export function stopwatch(): () => number {
  tick();
  const begunAt = runningMs;
  return () => {
    tick();
    return runningMs - begunAt;
  };
}

function tick(): void {
  const now = steadyNow();
  runningMs += Math.min(now - tickedAt, MOST_PER_TICK_MS);
  tickedAt = now;
}

setInterval(tick, TICK_MS).unref();
