import { performance } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import { RedisKitError } from '../base/errors.ts';
import type { LockKeys } from '../base/keys.ts';
import type { OpenWork } from '../base/open-work.ts';
import type { Engine } from '../engine/port.ts';
import { type LockReleaseArgs, lockRelease } from '../operations/lock-release.ts';

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 2_000;

/**
 * Takes back what nobody waits for or holds any more, and what may be there all the same: a grant or a place in the line
 * that came after we had given up on it, a release that was not heard. Tries until Redis has answered or the lease has
 * ended anyway.
 */
export async function undo(
  { engine, work }: { readonly engine: Engine; readonly work: OpenWork },
  keys: LockKeys,
  ask: LockReleaseArgs,
  leaseMs: number,
): Promise<void> {
  const until = performance.now() + leaseMs;
  const isDone = work.begin();
  for (let ms = FIRST_PAUSE_MS; performance.now() < until; ms = Math.min(ms * 2, LONGEST_PAUSE_MS)) {
    try {
      await engine.run(lockRelease, [keys.lock, keys.line], ask);
      return;
    } catch (error) {
      if (error instanceof RedisKitError && error.code === 'ERR_REDIS_KIT_CLOSED') return;
    } finally {
      // Who closes waits for one try.
      isDone();
    }
    // The caller has told of the trouble; an idle process may end meanwhile.
    await pause(ms, undefined, { ref: false });
  }
}
