import { onAbort } from '../base/abort.ts';
import { Alarm } from './alarm.ts';

/** An alarm may ring up to a millisecond early. */
const EARLY_MS = 1;

/**
 * Resolves at a moment of the steady clock (`performance.now()`), or up to a millisecond later, never earlier. Rejects
 * with the reason of the first signal that aborts before.
 */
export async function sleepUntil(dueAt: number, signals: readonly AbortSignal[]): Promise<void> {
  for (const signal of signals) signal.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const alarm = new Alarm({ due: () => end(resolve) });
    const stops = signals.map((signal) => onAbort(signal, () => end(() => reject(signal.reason))));
    function end(settle: () => void): void {
      alarm.clear();
      for (const stop of stops) stop();
      settle();
    }
    alarm.set(dueAt + EARLY_MS);
  });
}
