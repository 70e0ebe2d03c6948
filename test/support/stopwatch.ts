/** The real steady clock, also while a test has stopped the time. */
export const steadyNow = performance.now.bind(performance);

const TICK_MS = 10;
const MOST_PER_TICK_MS = 20;

let tickedAt = steadyNow();
let runningMs = 0;

/**
 * Measures how long something takes, for upper bounds: returns the milliseconds so far in which this process had its
 * turns. A stretch in which the machine gave it none counts as one tick, since nothing could happen in it.
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
