import { types } from 'node:util';

export type Chunk = string | Uint8Array;
export type Done = (error?: Error | null) => void;

/** The arguments of `write` and `end`: (chunk, encoding, callback), each of which may be left out. */
export interface Call {
  readonly chunk: unknown;
  readonly encoding: BufferEncoding | undefined;
  readonly done: Done | undefined;
}

export interface Write extends Call {
  readonly chunk: Chunk;
  /** With this write the client would have everything that the headers promise, and it must not yet. */
  readonly completes: boolean;
}

export function callOf([first, second, third]: readonly unknown[]): Call {
  if (typeof first === 'function') return { chunk: undefined, encoding: undefined, done: first as Done };
  const done = typeof second === 'function' ? second : third;
  return {
    chunk: first,
    encoding: typeof second === 'string' ? (second as BufferEncoding) : undefined,
    done: typeof done === 'function' ? (done as Done) : undefined,
  };
}

/** What Node writes. Not `instanceof`, which tells a test runner's Buffer from everybody else's. */
export function isChunk(value: unknown): value is Chunk {
  return typeof value === 'string' || types.isUint8Array(value);
}

/** The writes of a response that wait for its hooks. */
export class BufferedWrites {
  #calls: Write[] = [];
  #bytes = 0;
  #owesDrain = false;

  get isEmpty(): boolean {
    return this.#calls.length === 0;
  }

  /** Answers as Node's `write` does: whether the writer may go on before the next 'drain'. */
  hold(call: Write, highWaterMark: number): boolean {
    if (call.completes) {
      // A writer that waits to be called back before it ends would otherwise wait for itself, and one that was
      // called back may write something else into its buffer.
      const chunk = typeof call.chunk === 'string' ? call.chunk : Buffer.from(call.chunk);
      this.#calls.push({ ...call, chunk, done: undefined });
      if (call.done !== undefined) process.nextTick(call.done);
      return true;
    }
    this.#calls.push(call);
    this.#bytes += call.chunk.length;
    const hasRoom = this.#bytes < highWaterMark;
    this.#owesDrain ||= !hasRoom;
    return hasRoom;
  }

  /** A writer that `hold` refused may go on. */
  payDrain(writer: { emit(event: 'drain'): unknown }): void {
    if (this.#owesDrain) process.nextTick(() => writer.emit('drain'));
    this.#owesDrain = false;
  }

  /** Hands on what may leave, which is `all` only at the end; answers whether there is room for more. */
  release(all: boolean, write: (call: Write) => boolean): boolean {
    let hasRoom = true;
    for (let call = this.#calls[0]; call !== undefined; call = this.#calls[0]) {
      if (call.completes && !all) break;
      this.#calls.shift();
      hasRoom = write(call);
    }
    return hasRoom;
  }

  /** Forgets them all. Their writers did nothing wrong and must not wait for ever. */
  drop(): void {
    for (const { done } of this.#calls) if (done !== undefined) process.nextTick(done);
    this.#calls = [];
  }
}
