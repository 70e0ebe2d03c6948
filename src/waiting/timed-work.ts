import { performance } from 'node:perf_hooks';
import { onAbort } from '../base/abort.ts';
import { asError } from '../base/errors.ts';
import { Alarm } from './alarm.ts';
import { sleepUntil } from './sleep.ts';
import { lateForClose } from './work-errors.ts';
import type { QueuedWork } from './work-queue.ts';

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;

export interface TimedWork {
  readonly timeoutMs: number;
  readonly retries: number;
  /** Does the work, within the time that is left. The signal aborts when the time is over or the kit waits no longer. */
  attempt(signal: AbortSignal, leftMs: number): unknown;
  /** Whether the work may be attempted again after this error. */
  mayRetry(error: unknown): boolean;
  /** Creates the error for work that takes too long. */
  late(): Error;
  /** Reports that the work was not done. Called once at most. */
  lost(error: Error): void;
}

/** Work for a WorkQueue. */
export function queuedWork(key: string, closeDeadline: AbortSignal, work: TimedWork): QueuedWork {
  return {
    key,
    run: (leaveWorker) => runTimedWork(work, closeDeadline, leaveWorker),
    drop: (error) => work.lost(error),
  };
}

/**
 * Attempts work until it succeeds, is out of time or tries, or `closeDeadline` aborts. `leaveWorker` is called when the
 * outcome is known, and the promise resolves when the last attempt has ended. Never rejects.
 */
async function runTimedWork(
  work: TimedWork,
  closeDeadline: AbortSignal,
  leaveWorker: () => void,
): Promise<void> {
  const until = performance.now() + work.timeoutMs;
  const controller = new AbortController();
  const { signal } = controller;
  const alarm = new Alarm({ due: () => giveUp(work.late()) });
  const stopListening = onAbort(closeDeadline, () => giveUp(lateForClose()));
  function giveUp(error: Error): void {
    if (signal.aborted) return;
    controller.abort(error);
    work.lost(error);
    leaveWorker();
  }
  alarm.set(until);
  if (closeDeadline.aborted) giveUp(lateForClose());
  let pauseMs = FIRST_PAUSE_MS;
  for (let tries = 0; !signal.aborted; tries++) {
    try {
      await work.attempt(signal, Math.max(1, Math.round(until - performance.now())));
      break;
    } catch (error) {
      if (signal.aborted) break;
      if (tries >= work.retries || !work.mayRetry(error)) giveUp(asError(error));
    }
    // Ends early when the signal aborts, which also ends the loop.
    await sleepUntil(performance.now() + pauseMs, [signal]).catch(() => undefined);
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
  }
  alarm.clear();
  stopListening();
}
