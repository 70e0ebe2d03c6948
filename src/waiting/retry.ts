import { performance } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import { ConnectionError, type ErrorCode, RedisKitError, StoreError } from '../base/errors.ts';
import type { OpenWork } from '../base/open-work.ts';

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 2_000;

/** Errors that are raised before a command is sent or after its reply has arrived, so that its outcome is known. */
const KNOWN_OUTCOMES: ReadonlySet<ErrorCode> = new Set([
  'ERR_REDIS_KIT_CLOSED',
  'ERR_REDIS_KIT_NEWER_FORMAT',
  'ERR_REDIS_KIT_CORRUPT',
]);

/**
 * Repeats a command in the background until the store has answered or `forMs` have passed. The command must do no harm
 * if it runs twice. Never rejects. If `work` is given, closing the kit waits for the first try.
 */
export async function sendUntilAnswered(
  send: () => Promise<unknown>,
  forMs: number,
  work?: OpenWork,
): Promise<void> {
  const until = performance.now() + forMs;
  let openWork = work;
  openWork?.begin();
  for (let ms = FIRST_PAUSE_MS; performance.now() < until; ms = Math.min(ms * 2, LONGEST_PAUSE_MS)) {
    try {
      await send();
      return;
    } catch (error) {
      // Not reported: the caller has already reported the first failure.
      if (error instanceof RedisKitError && error.code === 'ERR_REDIS_KIT_CLOSED') return;
    } finally {
      openWork?.end();
      openWork = undefined;
    }
    await pause(ms, undefined, { ref: false });
  }
}

/** Whether a command that failed with this error may have run. */
export function mayHaveRun(error: unknown): boolean {
  if (error instanceof ConnectionError || !(error instanceof StoreError)) return false;
  return !KNOWN_OUTCOMES.has(error.code);
}
