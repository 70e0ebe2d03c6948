import type { ServerResponse } from 'node:http';
import { types } from 'node:util';

export type Chunk = string | Uint8Array;
export type Done = (error?: Error | null) => void;

/** The arguments of `write` and `end`: (chunk, encoding, callback), all optional. */
export interface Call {
  readonly chunk: unknown;
  readonly encoding: BufferEncoding | undefined;
  readonly done: Done | undefined;
}

export interface Write extends Call {
  readonly chunk: Chunk;
  /** Whether the response is complete with this write, so that the write must wait for the hooks. */
  readonly completes: boolean;
}

export function callOf(args: readonly unknown[]): Call {
  // Not destructured, since this runs for every call and iteration costs more.
  const first = args[0];
  const second = args[1];
  if (typeof first === 'function') return { chunk: undefined, encoding: undefined, done: first as Done };
  const done = typeof second === 'function' ? second : args[2];
  return {
    chunk: first,
    encoding: typeof second === 'string' ? (second as BufferEncoding) : undefined,
    done: typeof done === 'function' ? (done as Done) : undefined,
  };
}

/** Calls the callback of `end` once the response has been sent, as Node does. */
export function callWhenFinished(res: ServerResponse, done: Done | undefined): void {
  if (done === undefined) return;
  if (res.writableFinished) process.nextTick(done);
  else res.once('finish', done);
}

/** Whether Node can write a value. `instanceof Uint8Array` is false for Buffers of another realm (test runners). */
export function isChunk(value: unknown): value is Chunk {
  return typeof value === 'string' || types.isUint8Array(value);
}

/** The error that Node passes to the callback of a write after the end. */
export function writeAfterEnd(): Error {
  return Object.assign(new Error('write after end'), { code: 'ERR_STREAM_WRITE_AFTER_END' });
}

/** Buffers writes until the hooks of the response have run. */
export class BufferedWrites {
  #calls: Write[] = [];
  #bytes = 0;
  #needsDrain = false;

  get isEmpty(): boolean {
    return this.#calls.length === 0;
  }

  /** Returns what `write` returns: whether the writer may continue before the next 'drain'. */
  add(call: Write, highWaterMark: number): boolean {
    if (call.completes) {
      // The callback is called at once, since a writer may wait for it before calling `end()`. The chunk is copied,
      // since the writer may reuse its buffer after the callback.
      const chunk = typeof call.chunk === 'string' ? call.chunk : Buffer.from(call.chunk);
      this.#calls.push({ ...call, chunk, done: undefined });
      if (call.done !== undefined) process.nextTick(call.done);
      return true;
    }
    this.#calls.push(call);
    this.#bytes += call.chunk.length;
    const hasSpace = this.#bytes < highWaterMark;
    this.#needsDrain ||= !hasSpace;
    return hasSpace;
  }

  /** Emits 'drain' if `add` has returned false. */
  emitDrain(writer: { emit(event: 'drain'): unknown }): void {
    if (this.#needsDrain) process.nextTick(() => writer.emit('drain'));
    this.#needsDrain = false;
  }

  /** Writes buffered calls; without `all`, none that completes the response. Returns the result of the last `write`. */
  release(all: boolean, write: (call: Write) => boolean): boolean {
    let hasSpace = true;
    for (let call = this.#calls[0]; call !== undefined; call = this.#calls[0]) {
      if (call.completes && !all) break;
      this.#calls.shift();
      hasSpace = write(call);
    }
    return hasSpace;
  }

  /** Discards all writes, and calls their callbacks so that no writer waits forever. */
  discard(): void {
    for (const { done } of this.#calls) if (done !== undefined) process.nextTick(done);
    this.#calls = [];
  }
}
