import { performance } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import { ConnectionError, RedisKitError, StoreError } from '../base/errors.ts';

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 2_000;

/**
 * Tries something that must reach the store although nobody waits for it, until the store has answered or so many
 * milliseconds have passed. Resolves to whether it has. Only for what may run twice.
 */
export async function insist(work: () => Promise<unknown>, forMs: number): Promise<boolean> {
  const until = performance.now() + forMs;
  for (let ms = FIRST_PAUSE_MS; performance.now() < until; ms = Math.min(ms * 2, LONGEST_PAUSE_MS)) {
    try {
      await work();
      return true;
    } catch (error) {
      if (error instanceof RedisKitError && error.code === 'ERR_REDIS_KIT_CLOSED') return false;
    }
    // The caller has told of the trouble; an idle process may end meanwhile.
    await pause(ms, undefined, { ref: false });
  }
  return false;
}

/** Whether the store may have done what failed with this error, and so what we have given up on. */
export function mayHaveRun(error: unknown): boolean {
  if (error instanceof ConnectionError || !(error instanceof StoreError)) return false;
  return error.code !== 'ERR_REDIS_KIT_CLOSED' && error.code !== 'ERR_REDIS_KIT_NEWER_FORMAT';
}
