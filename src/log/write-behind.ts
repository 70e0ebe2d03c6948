import { asError, ConnectionError, StoreError } from '../base/errors.ts';
import { parseJson } from '../base/json.ts';
import type { Reporter } from '../base/reporter.ts';
import { Deadline } from '../engine/deadline.ts';
import { lossReporter } from '../waiting/report-lost.ts';
import { queuedWork } from '../waiting/timed-work.ts';
import type { WorkSettings } from '../waiting/work-options.ts';
import { type QueuedWork, WorkQueue, type WorkQueueDeps } from '../waiting/work-queue.ts';
import type { LogStore } from './log.ts';
import type { LostEvent } from './options.ts';

/** Writes events in the background: those of one id in their order, one at a time. */
export class WriteBehind<Event> {
  readonly #settings: WorkSettings<LostEvent<Event>>;
  readonly #store: LogStore<Event>;
  readonly #closeDeadline: AbortSignal;
  readonly #queue: WorkQueue;
  readonly #lost: (error: Error, lost: LostEvent<Event>) => void;

  constructor(
    settings: WorkSettings<LostEvent<Event>>,
    store: LogStore<Event>,
    deps: WorkQueueDeps & { readonly reporter: Reporter },
  ) {
    this.#settings = settings;
    this.#store = store;
    this.#closeDeadline = deps.closeDeadline;
    this.#queue = new WorkQueue(settings, deps);
    this.#lost = lossReporter('log', deps.reporter, settings.onError);
  }

  /** Resolves when the event is in the queue. */
  async push(id: string, text: string): Promise<undefined> {
    await this.#queue.push(this.#write(id, text));
  }

  /**
   * Reports an event that the queue does not accept now as lost. For events without a caller that would slow down:
   * callers that wait for space take memory without a bound.
   */
  async pushOrReport(id: string, text: string): Promise<undefined> {
    const write = this.#write(id, text);
    try {
      this.#queue.pushNow(write);
    } catch (error) {
      write.drop(asError(error));
    }
  }

  #write(id: string, text: string): QueuedWork {
    const { timeoutMs } = this.#settings;
    return queuedWork(id, this.#closeDeadline, {
      ...this.#settings,
      attempt: (_signal, leftMs) => this.#store.write(id, text, new Deadline(leftMs)),
      // After any other error the event may be stored.
      mayRetry: (error) => error instanceof ConnectionError,
      late: () => new StoreError('ERR_REDIS_KIT_TIMEOUT', `an event was not stored within ${timeoutMs} ms`),
      lost: (error) => this.#lost(error, { id, event: parseJson(text) as Event }),
    });
  }
}
