import { performance } from 'node:perf_hooks';
import { onAbort } from '../base/abort.ts';
import { closedError, RedisKitError, StoreError } from '../base/errors.ts';
import type { OpenWork } from '../base/open-work.ts';
import { Alarm } from './alarm.ts';
import type { WorkSettings } from './work-options.ts';

/** Work of one key runs in its order, one at a time. */
export interface QueuedWork {
  readonly key: string;
  /**
   * Must not reject. The key is free for its next work when the promise resolves. The worker is free then, too, or
   * earlier with `leaveWorker()`.
   */
  run(leaveWorker: () => void): Promise<void>;
  /** Reports that the work will not run. */
  drop(error: Error): void;
}

export interface WorkQueueDeps {
  /** Closing the kit waits for the work of the queue. */
  readonly work: OpenWork;
  /** Aborts when the kit is closed: no more work is accepted. */
  readonly closing: AbortSignal;
  /** Aborts when closing the kit waits no longer: work in the queue is dropped. */
  readonly closeDeadline: AbortSignal;
}

type QueueSettings = Pick<WorkSettings<never>, 'workers' | 'queue' | 'timeoutMs' | 'onFull'>;

/** The work of one key. */
interface Lane {
  readonly key: string;
  readonly waiting: QueuedWork[];
  isBusy: boolean;
  /** Whether work that has left its worker does not end. */
  isStuck: boolean;
}

/** A caller that waits for space. */
interface Pusher {
  readonly work: QueuedWork;
  accept(): void;
  reject(error: Error): void;
}

/** Work that a caller of `flush()` waits for. */
interface Flush {
  readonly open: Set<QueuedWork>;
  end(): void;
}

/** A bounded queue with several workers. Keys take turns, so that much work of one key does not hold up the others. */
export class WorkQueue {
  readonly #settings: QueueSettings;
  readonly #deps: WorkQueueDeps;
  readonly #lanes = new Map<string, Lane>();
  /** The lanes from which a worker may take, in the order of their turns. */
  readonly #ready = new Set<Lane>();
  /** Oldest first. */
  readonly #queued = new Set<QueuedWork>();
  readonly #running = new Set<QueuedWork>();
  readonly #pushers = new Set<Pusher>();
  readonly #flushes = new Set<Flush>();
  /** Set while there is work, so that an unused queue is not kept alive by its kit. */
  #stopListening: (() => void) | undefined;

  constructor(settings: QueueSettings, deps: WorkQueueDeps) {
    this.#settings = settings;
    this.#deps = deps;
  }

  /** The number of busy workers. */
  get running(): number {
    return this.#running.size;
  }

  /** The number that waits, without the callers that wait for space. */
  get queued(): number {
    return this.#queued.size;
  }

  /** Resolves when the work is accepted. */
  async push(work: QueuedWork): Promise<void> {
    if (this.#deps.closing.aborted) throw closedError();
    if (this.#lanes.get(work.key)?.isStuck === true) throw stuckError(work.key);
    if (this.#hasSpaceFor(work)) {
      this.#accept(work);
      return;
    }
    const { onFull, queue } = this.#settings;
    if (onFull === 'reject') throw fullError(queue);
    if (onFull === 'drop-oldest') {
      for (const oldest of this.#queued) {
        this.#drop(oldest, fullError(queue));
        break;
      }
      this.#accept(work);
      return;
    }
    await new Promise<void>((accept, reject) => this.#pushers.add({ work, accept, reject }));
  }

  /** Resolves when all work that was pushed before has ended or is reported. */
  async flush(): Promise<void> {
    const pushed = Array.from(this.#pushers, ({ work }) => work);
    const open = new Set([...this.#queued, ...this.#running, ...pushed]);
    if (open.size === 0) return;
    await new Promise<void>((end) => this.#flushes.add({ open, end }));
  }

  #hasSpaceFor({ key }: QueuedWork): boolean {
    const startsNow = this.#running.size < this.#settings.workers && !this.#lanes.has(key);
    return startsNow || this.#queued.size < this.#settings.queue;
  }

  #accept(work: QueuedWork): void {
    this.#listen();
    this.#deps.work.begin();
    const lane = this.#lanes.get(work.key) ?? { key: work.key, waiting: [], isBusy: false, isStuck: false };
    this.#lanes.set(work.key, lane);
    lane.waiting.push(work);
    this.#queued.add(work);
    if (!lane.isBusy) this.#ready.add(lane);
    this.#startNext();
  }

  #startNext(): void {
    for (const lane of this.#ready) {
      if (this.#running.size >= this.#settings.workers) return;
      this.#ready.delete(lane);
      const work = lane.waiting.shift();
      if (work !== undefined) void this.#run(lane, work);
    }
  }

  async #run(lane: Lane, work: QueuedWork): Promise<void> {
    this.#queued.delete(work);
    this.#running.add(work);
    lane.isBusy = true;
    const stuck = new Alarm({ due: () => this.#dropStuck(lane) });
    const leaveWorker = () => {
      if (!this.#running.delete(work)) return;
      stuck.set(performance.now() + this.#settings.timeoutMs);
      this.#ended(work);
    };
    // Work does not begin inside of the call of `push`.
    await undefined;
    await work.run(leaveWorker);
    leaveWorker();
    stuck.clear();
    lane.isBusy = false;
    lane.isStuck = false;
    if (lane.waiting.length > 0) this.#ready.add(lane);
    else this.#lanes.delete(lane.key);
    this.#advance();
  }

  /** Counts work as done for `close()` and `flush()`. */
  #ended(work: QueuedWork): void {
    this.#deps.work.end();
    this.#leaveFlushes(work);
    this.#advance();
  }

  #leaveFlushes(work: QueuedWork): void {
    for (const flush of this.#flushes) {
      flush.open.delete(work);
      if (flush.open.size === 0 && this.#flushes.delete(flush)) flush.end();
    }
  }

  /** Uses the workers and the space that have become free. */
  #advance(): void {
    this.#startNext();
    for (const pusher of this.#pushers) {
      if (this.#queued.size >= this.#settings.queue && this.#running.size >= this.#settings.workers) break;
      if (!this.#hasSpaceFor(pusher.work)) continue;
      this.#pushers.delete(pusher);
      this.#accept(pusher.work);
      pusher.accept();
    }
    if (this.#queued.size + this.#running.size === 0) {
      this.#stopListening?.();
      this.#stopListening = undefined;
    }
  }

  #drop(work: QueuedWork, error: Error): void {
    this.#queued.delete(work);
    const lane = this.#lanes.get(work.key);
    if (lane !== undefined) {
      lane.waiting.splice(lane.waiting.indexOf(work), 1);
      if (lane.waiting.length === 0) {
        this.#ready.delete(lane);
        if (!lane.isBusy) this.#lanes.delete(lane.key);
      }
    }
    work.drop(error);
    this.#ended(work);
  }

  /** Work that has left its worker and does not end must not fill the queue with the work behind it. */
  #dropStuck(lane: Lane): void {
    lane.isStuck = true;
    const pushers = [...this.#pushers].filter(({ work }) => work.key === lane.key);
    for (const pusher of pushers) this.#reject(pusher, stuckError(lane.key));
    for (const work of [...lane.waiting]) this.#drop(work, stuckError(lane.key));
  }

  #listen(): void {
    if (this.#stopListening !== undefined) return;
    const stops = [
      onAbort(this.#deps.closing, () => {
        for (const pusher of [...this.#pushers]) this.#reject(pusher, closedError());
      }),
      onAbort(this.#deps.closeDeadline, () => {
        for (const work of [...this.#queued]) this.#drop(work, lateForClose());
      }),
    ];
    this.#stopListening = () => {
      for (const stop of stops) stop();
    };
  }

  #reject(pusher: Pusher, error: Error): void {
    this.#pushers.delete(pusher);
    pusher.reject(error);
    this.#leaveFlushes(pusher.work);
  }
}

/** The error for work that was not done when `kit.close()` waited no longer. */
export function lateForClose(): StoreError {
  return new StoreError('ERR_REDIS_KIT_CLOSED', 'the time of kit.close() ended before it was done');
}

function fullError(queue: number): RedisKitError {
  return new RedisKitError(
    'ERR_REDIS_KIT_QUEUE_FULL',
    `the queue is full (${queue}); raise \`queue\`, \`workers\` or \`timeout\`, or choose another \`onFull\``,
  );
}

function stuckError(key: string): RedisKitError {
  return new RedisKitError(
    'ERR_REDIS_KIT_JOB_TIMEOUT',
    `an earlier job of the key '${key}' ignores its signal and still runs, so its next one cannot begin`,
  );
}
