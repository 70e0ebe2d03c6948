import type { Duration } from '../base/duration.ts';
import { renamed } from '../base/foreign-options.ts';
import { readSettings } from '../base/settings.ts';
import { timerOption } from '../base/timed-options.ts';

/** `Lost` says what was not done: an event with its id, or the key of a job. */
export interface WorkOptions<Lost> {
  /** The most that run at the same time, each for another key; from 1 to 10,000. Default 10. */
  readonly workers?: number | undefined;
  /** The most that wait for a worker or for their turn; from 1 to 1,000,000. Default 100. */
  readonly queue?: number | undefined;
  /** How long one may take, with all its tries; default `'2s'` for write-behind and `'30s'` for jobs. */
  readonly timeout?: Duration | undefined;
  /**
   * When the queue is full: the call waits for space (`'wait'`, the default), the oldest in the queue is dropped and
   * reported (`'drop-oldest'`), or the call rejects with `ERR_REDIS_KIT_QUEUE_FULL` (`'reject'`).
   */
  readonly onFull?: 'wait' | 'drop-oldest' | 'reject' | undefined;
  /**
   * How often a failed one is tried again, with growing pauses and within `timeout`: an event only if it was certainly
   * not stored (default 10), a job after any error (default 0). At most 1,000.
   */
  readonly retries?: number | undefined;
  /** Receives each error that no caller receives, with what was lost. It is also emitted as `error`. */
  readonly onError?: ((error: Error, lost: Lost) => void) | undefined;
}

export interface WorkSettings<Lost> {
  readonly workers: number;
  readonly queue: number;
  readonly timeoutMs: number;
  readonly onFull: 'wait' | 'drop-oldest' | 'reject';
  readonly retries: number;
  readonly onError: WorkOptions<Lost>['onError'];
}

const OPTIONS = ['workers', 'queue', 'timeout', 'onFull', 'retries', 'onError'] as const;

/** Options of other packages, for which the error names the option of the kit. */
const ELSEWHERE = {
  ...renamed('workers', 'concurrency', 'maxConcurrent', 'parallel'),
  ...renamed('queue', 'queueSize', 'maxQueue', 'highWaterMark', 'limit', 'max'),
  ...renamed('retries', 'retry', 'attempts', 'retryCount'),
};

/** `where` names the call or the option. */
export function resolveWorkOptions<Lost>(
  where: string,
  options: WorkOptions<Lost>,
  defaults: { readonly timeout: Duration; readonly retries: number },
): WorkSettings<Lost> {
  return readSettings(where, options, { known: OPTIONS, elsewhere: ELSEWHERE }, (reader) => ({
    workers: () => reader.integer('workers', { min: 1, max: 10_000 }) ?? 10,
    queue: () => reader.integer('queue', { min: 1, max: 1_000_000 }) ?? 100,
    timeoutMs: () => timerOption(reader, 'timeout', defaults.timeout),
    onFull: () => reader.oneOf('onFull', ['wait', 'drop-oldest', 'reject'], 'wait'),
    retries: () => reader.integer('retries', { min: 0, max: 1_000 }) ?? defaults.retries,
    onError: () => reader.callback<NonNullable<WorkOptions<Lost>['onError']>>('onError'),
  }));
}
