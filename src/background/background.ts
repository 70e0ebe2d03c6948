import { AsyncLocalStorage } from 'node:async_hooks';
import { describe } from '../base/describe.ts';
import { ConfigError, RedisKitError } from '../base/errors.ts';
import { checkedIdentity } from '../base/identity.ts';
import type { OpenWork } from '../base/open-work.ts';
import type { Reporter } from '../base/reporter.ts';
import { lossReporter } from '../waiting/report-lost.ts';
import { queuedWork } from '../waiting/timed-work.ts';
import { resolveWorkOptions, type WorkOptions, type WorkSettings } from '../waiting/work-options.ts';
import { WorkQueue, type WorkQueueDeps } from '../waiting/work-queue.ts';

/** A job that was not done. */
interface LostJob {
  readonly key: string;
}

export type BackgroundOptions = WorkOptions<LostJob>;

/** Work that the app does behind a response. */
export type BackgroundJob = (context: { readonly signal: AbortSignal }) => unknown;

/** Runs jobs in this process, in a bounded queue. Jobs that wait are lost if the process ends without `kit.close()`. */
export interface Background {
  /**
   * Resolves when the job is in the queue, not when it has run. Jobs of one key run in their order, one at a time. The
   * signal aborts when `timeout` is over, or when `kit.close()` waits no longer. A job that ignores it keeps its key
   * until it ends, and its worker takes jobs of other keys. Errors of jobs go to `onError`. Rejects with
   * `ERR_REDIS_KIT_QUEUE_FULL` with `onFull: 'reject'`, and with `ERR_REDIS_KIT_CLOSED` after `kit.close()`, except in a
   * job for which `kit.close()` waits.
   */
  push(key: string, job: BackgroundJob): Promise<void>;
  /** Resolves when all jobs that were pushed before have ended or failed. */
  flush(): Promise<void>;
  /** `running` and `queued` are the jobs now, `failed` those since the start that failed, timed out or were dropped. */
  stats(): { readonly running: number; readonly queued: number; readonly failed: number };
}

export class JobQueue implements Background {
  readonly #settings: WorkSettings<LostJob>;
  readonly #closeDeadline: AbortSignal;
  readonly #work: OpenWork;
  readonly #queue: WorkQueue;
  readonly #report: (error: Error, lost: LostJob) => void;
  #failed = 0;

  constructor(options: BackgroundOptions, deps: WorkQueueDeps & { readonly reporter: Reporter }) {
    this.#settings = resolveWorkOptions('kit.background', options, { timeout: '30s', retries: 0 });
    this.#closeDeadline = deps.closeDeadline;
    this.#work = deps.work;
    this.#queue = new WorkQueue(this.#settings, deps);
    this.#report = lossReporter('background', deps.reporter, this.#settings.onError);
  }

  async push(key: string, job: BackgroundJob): Promise<void> {
    checkedIdentity('background.push: the key', key);
    if (typeof job !== 'function') {
      throw new ConfigError(`background.push: the job is ${describe(job)}; it must be a function`);
    }
    // A job of one request must not run in the async context of another one.
    const inContext = AsyncLocalStorage.snapshot();
    await this.#queue.push(
      queuedWork(key, this.#closeDeadline, {
        ...this.#settings,
        attempt: (signal) => inContext(() => this.#work.runPart(() => job({ signal }))),
        mayRetry: () => true,
        late: () => lateJob(key, this.#settings.timeoutMs),
        lost: (error) => {
          this.#failed++;
          this.#report(error, { key });
        },
      }),
    );
  }

  flush(): Promise<void> {
    return this.#queue.flush();
  }

  stats(): { readonly running: number; readonly queued: number; readonly failed: number } {
    return { running: this.#queue.running, queued: this.#queue.queued, failed: this.#failed };
  }
}

function lateJob(key: string, timeoutMs: number): RedisKitError {
  return new RedisKitError(
    'ERR_REDIS_KIT_JOB_TIMEOUT',
    `a job of the key '${key}' did not end within ${timeoutMs} ms`,
  );
}
