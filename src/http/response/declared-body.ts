import type { ServerResponse } from 'node:http';
import { isBodyless } from './response-head.ts';

/** Compares the written body of a response with the length that its headers declare. */
export class DeclaredBody {
  readonly #res: ServerResponse;
  #written = 0;

  constructor(res: ServerResponse) {
    this.#res = res;
  }

  /** Whether the headers are the complete response. */
  get isEmpty(): boolean {
    return isBodyless(this.#res) || Number(this.#res.getHeader('content-length') ?? 1) === 0;
  }

  /** Counts a chunk, and returns whether the body is complete with it. */
  add(chunk: string | Uint8Array, encoding: BufferEncoding | undefined): boolean {
    this.#written += typeof chunk === 'string' ? Buffer.byteLength(chunk, encoding) : chunk.byteLength;
    const declared = this.#res.getHeader('content-length');
    return isBodyless(this.#res) || (declared !== undefined && this.#written >= Number(declared));
  }
}
