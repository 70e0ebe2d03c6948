import type { Duration } from '../base/duration.ts';
import { renamed } from '../base/foreign-options.ts';
import { readSettings } from '../base/settings.ts';
import { timerOption } from '../base/timed-options.ts';

/** The options of a queue. `Lost` is an event with its id, or the key of a job. */
export interface WorkOptions<Lost> {
  /** How many events are written, or jobs run, at the same time, each of another key; from 1 to 10,000. Default 10. */
  readonly workers?: number | undefined;
  /** How many events or jobs may wait for a worker or for their turn; from 1 to 1,000,000. Default 100. */
  readonly queue?: number | undefined;
  /** How long one event or job may take, with all its tries. Default `'2s'` for an event and `'30s'` for a job. */
  readonly timeout?: Duration | undefined;
  /**
   * When the queue is full: the call waits for space (`'wait'`, the default), the event or job that has waited longest is
   * dropped and reported (`'drop-oldest'`), or the call rejects with `ERR_REDIS_KIT_QUEUE_FULL` (`'reject'`).
   */
  readonly onFull?: 'wait' | 'drop-oldest' | 'reject' | undefined;
  /**
   * How often a write or a job that failed is tried again, with growing pauses and within `timeout`: a write only if the
   * event was certainly not stored (default 10), a job after any error (default 0). At most 1,000.
   */
  readonly retries?: number | undefined;
  /** Receives each error with the event or the key of the job that it concerns. The error is also emitted as `error`. */
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
