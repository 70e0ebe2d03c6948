import { performance } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import { RedisKitError } from '../base/errors.ts';
import type { Engine } from '../engine/port.ts';
import { lockRelease } from '../operations/lock-release.ts';

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 2_000;

/**
 * Frees a lock that is or may be ours and that nobody holds a handle of any more: its acquire was granted after we had
 * given up on it, or its release was not heard. Tries until Redis has answered or the lease has ended anyway.
 */
export async function undo(engine: Engine, key: string, token: string, leaseMs: number): Promise<void> {
  const until = performance.now() + leaseMs;
  for (let ms = FIRST_PAUSE_MS; performance.now() < until; ms = Math.min(ms * 2, LONGEST_PAUSE_MS)) {
    try {
      await engine.run(lockRelease, [key], { token });
      return;
    } catch (error) {
      if (error instanceof RedisKitError && error.code === 'ERR_REDIS_KIT_CLOSED') return;
    }
    // The caller has told of the trouble; an idle process may end meanwhile.
    await pause(ms, undefined, { ref: false });
  }
}
