import type { ServerResponse } from 'node:http';
import { isBodyless } from './response-head.ts';

/** Compares the bytes written to a response with its Content-Length. */
export class DeclaredBody {
  readonly #res: ServerResponse;
  #written = 0;

  constructor(res: ServerResponse) {
    this.#res = res;
  }

  /** Whether the response has no body, so that it is complete with its headers. */
  get isEmpty(): boolean {
    return isBodyless(this.#res) || Number(this.#res.getHeader('content-length') ?? 1) === 0;
  }

  /** Counts the bytes of a chunk. Returns whether the body is complete with this chunk. */
  add(chunk: string | Uint8Array, encoding: BufferEncoding | undefined): boolean {
    this.#written += typeof chunk === 'string' ? Buffer.byteLength(chunk, encoding) : chunk.byteLength;
    const declared = this.#res.getHeader('content-length');
    return isBodyless(this.#res) || (declared !== undefined && this.#written >= Number(declared));
  }
}
