import { performance } from 'node:perf_hooks';
import { onAbort } from '../base/abort.ts';
import { Alarm } from '../waiting/alarm.ts';
import type { EventStream } from './event-stream.ts';

/** The streams of one middleware, with one timer for the heartbeats of all. They end when `closing` aborts. */
export class OpenStreams {
  readonly #streams = new Set<EventStream>();
  readonly #heartbeatMs: number;
  readonly #closing: AbortSignal;
  readonly #alarm = new Alarm({ due: () => this.#heartbeat() });
  #ignoreClosing: () => void = () => undefined;
  #isClosed = false;

  constructor(heartbeatMs: number, closing: AbortSignal) {
    this.#heartbeatMs = heartbeatMs;
    this.#closing = closing;
  }

  get isClosed(): boolean {
    return this.#isClosed || this.#closing.aborted;
  }

  add(stream: EventStream): void {
    if (this.#streams.size === 0) {
      this.#setAlarm();
      this.#ignoreClosing = onAbort(this.#closing, () => this.close());
    }
    this.#streams.add(stream);
    stream.onEnd(() => {
      this.#streams.delete(stream);
      if (this.#streams.size > 0) return;
      this.#alarm.clear();
      this.#ignoreClosing();
    });
  }

  /** Ends all streams. */
  close(): void {
    this.#isClosed = true;
    for (const stream of [...this.#streams]) stream.end();
  }

  #setAlarm(): void {
    this.#alarm.set(performance.now() + this.#heartbeatMs);
  }

  #heartbeat(): void {
    this.#setAlarm();
    for (const stream of [...this.#streams]) stream.heartbeat();
  }
}
