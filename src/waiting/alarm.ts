import { AsyncLocalStorage } from 'node:async_hooks';
import { performance } from 'node:perf_hooks';

/** An alarm that its own task sets to the past is due after this time. */
const SOON_MS = 2;

/** Differences of the steady clock have rounding errors below this. */
const ROUNDING_MS = 0.01;

export interface AlarmTask {
  /** Called when the alarm is due. Must not throw. */
  due(): void;
}

/**
 * A timer for a task that is nearly always cancelled, such as the renewal of a lease. All alarms of the process share
 * one timer of Node: to set and clear a timer of its own costs a request more than the rest of its lease. An alarm
 * does not keep the process alive, and its task runs in no request's async context.
 */
export class Alarm {
  readonly task: AlarmTask;
  /** The moment of the steady clock at which the alarm is due. Only for the queue. */
  dueAt = 0;
  /** The index in the queue; -1 if the alarm is not set. Only for the queue. */
  index = -1;

  constructor(task: AlarmTask) {
    this.task = task;
  }

  /** Sets the alarm, or sets it again, to a moment of the steady clock (`performance.now()`). */
  set(dueAt: number): void {
    if (this.index !== -1) alarms.remove(this);
    this.dueAt = dueAt;
    alarms.add(this);
  }

  clear(): void {
    if (this.index === -1) return;
    alarms.remove(this);
    alarms.stopIfEmpty();
  }
}

/** The alarms of the process: a binary heap, in which no alarm is due before its parent. */
class AlarmQueue {
  readonly #heap: Alarm[] = [];
  readonly #run = () => this.#ring();
  /** Without it, the timer would keep alive the async context of the request that happens to set it. */
  readonly #outsideRequests = AsyncLocalStorage.snapshot();
  #timer: NodeJS.Timeout | undefined;
  #timerDueAt = Number.POSITIVE_INFINITY;
  #ringsUntil = Number.NEGATIVE_INFINITY;

  add(alarm: Alarm): void {
    // Otherwise, a task that sets its alarm to a moment in the past would be called for ever.
    if (alarm.dueAt <= this.#ringsUntil) alarm.dueAt = this.#ringsUntil - ROUNDING_MS + SOON_MS;
    this.#moveUp(alarm, this.#heap.length);
    if (alarm.dueAt < this.#timerDueAt) this.restart();
  }

  remove(alarm: Alarm): void {
    const { index } = alarm;
    const last = this.#heap.pop();
    alarm.index = -1;
    if (last === undefined || last === alarm) return;
    if (last.dueAt < alarm.dueAt) this.#moveUp(last, index);
    else this.#moveDown(last, index);
  }

  stopIfEmpty(): void {
    if (this.#heap.length === 0) this.restart();
  }

  /** Starts the timer for the alarm that is due first. A test that replaces Node's timers calls this method. */
  restart(): void {
    clearTimeout(this.#timer);
    const first = this.#heap[0];
    this.#timerDueAt = first?.dueAt ?? Number.POSITIVE_INFINITY;
    if (first === undefined) {
      this.#timer = undefined;
      return;
    }
    const ms = Math.max(0, Math.ceil(first.dueAt - performance.now() - ROUNDING_MS));
    this.#timer = this.#outsideRequests(() => setTimeout(this.#run, ms).unref());
  }

  #ring(): void {
    // A timer of Node may fire up to a millisecond early by the steady clock; it is then started again.
    const until = performance.now() + ROUNDING_MS;
    this.#ringsUntil = until;
    // Alarms that the tasks set do not start the timer.
    this.#timerDueAt = Number.NEGATIVE_INFINITY;
    try {
      for (let first = this.#heap[0]; first !== undefined && first.dueAt <= until; first = this.#heap[0]) {
        this.remove(first);
        first.task.due();
      }
    } finally {
      this.#ringsUntil = Number.NEGATIVE_INFINITY;
      this.restart();
    }
  }

  #moveUp(alarm: Alarm, from: number): void {
    let index = from;
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = this.#heap[above];
      if (parent === undefined || parent.dueAt <= alarm.dueAt) break;
      this.#put(parent, index);
      index = above;
    }
    this.#put(alarm, index);
  }

  #moveDown(alarm: Alarm, from: number): void {
    let index = from;
    for (;;) {
      const left = this.#heap[2 * index + 1];
      const right = this.#heap[2 * index + 2];
      const child = left !== undefined && right !== undefined && right.dueAt < left.dueAt ? right : left;
      if (child === undefined || child.dueAt >= alarm.dueAt) break;
      const below = child.index;
      this.#put(child, index);
      index = below;
    }
    this.#put(alarm, index);
  }

  #put(alarm: Alarm, index: number): void {
    this.#heap[index] = alarm;
    alarm.index = index;
  }
}

export const alarms: AlarmQueue = new AlarmQueue();
