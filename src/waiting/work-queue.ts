import { performance } from 'node:perf_hooks';
import { onAbort } from '../base/abort.ts';
import { closedError } from '../base/errors.ts';
import type { OpenWork } from '../base/open-work.ts';
import { Alarm } from './alarm.ts';
import { Fifo } from './fifo.ts';
import { keepProcessAlive } from './keep-alive.ts';
import { fullError, lateForClose, stuckError } from './work-errors.ts';
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
  /** Closing the kit waits for the work of the queue, and for callers that wait for space. */
  readonly work: OpenWork;
  /** Aborts when the kit is closed: only open work adds more work. */
  readonly closing: AbortSignal;
  /** Aborts when closing the kit waits no longer: work in the queue is dropped. */
  readonly closeDeadline: AbortSignal;
}

type QueueSettings = Pick<WorkSettings<never>, 'workers' | 'queue' | 'timeoutMs' | 'onFull'>;

/** The work of one key. */
interface Lane {
  readonly key: string;
  readonly waiting: Fifo<QueuedWork>;
  /** The number of callers that wait for space. */
  pushers: number;
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
  readonly #ready = new Fifo<Lane>();
  readonly #queued = new Fifo<QueuedWork>();
  readonly #running = new Set<QueuedWork>();
  /** Work that was dropped and is reported in a later turn. */
  readonly #unreported = new Set<QueuedWork>();
  readonly #pushers = new Fifo<Pusher>();
  readonly #flushes = new Set<Flush>();
  #isReportingFull = false;
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
    if (this.#acceptsNow(work)) return;
    const { onFull, queue } = this.#settings;
    if (onFull === 'reject') throw fullError(queue);
    const accepted = new Promise<void>((accept, reject) => {
      this.#deps.work.begin();
      this.#laneOf(work.key).pushers++;
      this.#pushers.add({ work, accept, reject });
    });
    await keepProcessAlive(accepted);
  }

  /** Accepts the work at once, or throws; never waits for space. */
  pushNow(work: QueuedWork): void {
    if (!this.#acceptsNow(work)) throw fullError(this.#settings.queue);
  }

  /** Resolves when all work that was pushed before has ended or is reported. */
  async flush(): Promise<void> {
    const pushed = this.#pushers.values().map(({ work }) => work);
    const open = new Set([...this.#queued.values(), ...this.#running, ...this.#unreported, ...pushed]);
    if (open.size === 0) return;
    await keepProcessAlive(new Promise<void>((end) => this.#flushes.add({ open, end })));
  }

  /** Returns false if the queue is full. Throws if it can never accept the work. */
  #acceptsNow(work: QueuedWork): boolean {
    const { closeDeadline, closing, work: openWork } = this.#deps;
    if (closeDeadline.aborted || (closing.aborted && !openWork.includesCaller)) throw closedError();
    if (this.#lanes.get(work.key)?.isStuck === true) throw stuckError(work.key);
    const hasSpace = this.#hasSpaceFor(work.key);
    const oldest = hasSpace || this.#settings.onFull !== 'drop-oldest' ? undefined : this.#queued.first;
    if (!hasSpace && oldest === undefined) return false;
    if (oldest !== undefined) this.#remove(oldest);
    // Before the report, which may push.
    this.#accept(work);
    if (oldest !== undefined) this.#reportFull(oldest);
    return true;
  }

  /** Work of an idle key starts at once if a worker is free, but does not overtake work of its key. */
  #hasSpaceFor(key: string): boolean {
    if (this.#running.size < this.#settings.workers && !this.#lanes.has(key)) return true;
    return this.#pushers.size === 0 && this.#queued.size < this.#settings.queue;
  }

  #laneOf(key: string): Lane {
    const known = this.#lanes.get(key);
    if (known !== undefined) return known;
    const lane = { key, waiting: new Fifo<QueuedWork>(), pushers: 0, isBusy: false, isStuck: false };
    this.#lanes.set(key, lane);
    return lane;
  }

  #accept(work: QueuedWork): void {
    this.#listen();
    this.#deps.work.begin();
    const lane = this.#laneOf(work.key);
    lane.waiting.add(work);
    this.#queued.add(work);
    if (!lane.isBusy) this.#ready.add(lane);
    this.#startNext();
  }

  #startNext(): void {
    while (this.#running.size < this.#settings.workers) {
      const lane = this.#ready.first;
      if (lane === undefined) return;
      this.#ready.delete(lane);
      const work = lane.waiting.first;
      if (work !== undefined) void this.#run(lane, work);
    }
  }

  async #run(lane: Lane, work: QueuedWork): Promise<void> {
    lane.waiting.delete(work);
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
    if (lane.waiting.size > 0) this.#ready.add(lane);
    this.#removeIfUnused(lane);
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
    // In their order, so that a completion does not look at all callers that wait.
    for (let next = this.#pushers.first; next !== undefined; next = this.#pushers.first) {
      const { work } = next;
      const lane = this.#laneOf(work.key);
      const startsNow =
        this.#running.size < this.#settings.workers && !lane.isBusy && lane.waiting.size === 0;
      if (!startsNow && this.#queued.size >= this.#settings.queue) break;
      this.#accept(work);
      this.#removePusher(next);
      next.accept();
    }
    if (this.#queued.size + this.#running.size === 0) {
      this.#stopListening?.();
      this.#stopListening = undefined;
    }
  }

  /** A report that pushes drops the next work, which is reported in a later turn: not in an endless recursion. */
  #reportFull(work: QueuedWork): void {
    const report = () => {
      this.#unreported.delete(work);
      this.#isReportingFull = true;
      this.#reportDropped(work, fullError(this.#settings.queue));
      this.#isReportingFull = false;
    };
    this.#unreported.add(work);
    if (this.#isReportingFull) setImmediate(report);
    else report();
  }

  #drop(work: QueuedWork, error: Error): void {
    this.#remove(work);
    this.#reportDropped(work, error);
  }

  #reportDropped(work: QueuedWork, error: Error): void {
    work.drop(error);
    this.#ended(work);
  }

  #remove(work: QueuedWork): void {
    this.#queued.delete(work);
    const lane = this.#laneOf(work.key);
    lane.waiting.delete(work);
    if (lane.waiting.size === 0) this.#ready.delete(lane);
    this.#removeIfUnused(lane);
  }

  /** Work that has left its worker and does not end must not fill the queue with the work behind it. */
  #dropStuck(lane: Lane): void {
    lane.isStuck = true;
    const pushers = this.#pushers.values().filter(({ work }) => work.key === lane.key);
    for (const pusher of pushers) this.#reject(pusher, stuckError(lane.key));
    for (const work of lane.waiting.values()) this.#drop(work, stuckError(lane.key));
  }

  #listen(): void {
    if (this.#stopListening !== undefined) return;
    this.#stopListening = onAbort(this.#deps.closeDeadline, () => {
      for (const pusher of this.#pushers.values()) this.#reject(pusher, closedError());
      for (const work of this.#queued.values()) this.#drop(work, lateForClose());
    });
  }

  #reject(pusher: Pusher, error: Error): void {
    this.#removePusher(pusher);
    pusher.reject(error);
    this.#leaveFlushes(pusher.work);
  }

  #removePusher(pusher: Pusher): void {
    this.#pushers.delete(pusher);
    const lane = this.#laneOf(pusher.work.key);
    lane.pushers--;
    this.#removeIfUnused(lane);
    this.#deps.work.end();
  }

  #removeIfUnused(lane: Lane): void {
    if (lane.waiting.size === 0 && lane.pushers === 0 && !lane.isBusy) this.#lanes.delete(lane.key);
  }
}
