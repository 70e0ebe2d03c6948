import type { ServerResponse } from 'node:http';
import type { Chunk } from './buffered-writes.ts';
import { isBodyless } from './response-head.ts';

/** Whether the response is complete with its headers, since it has no body. */
export function hasEmptyBody(res: ServerResponse): boolean {
  return isBodyless(res) || Number(res.getHeader('content-length') ?? 1) === 0;
}

/** Whether a body is complete with this number of bytes, according to its Content-Length. */
export function isWholeBody(res: ServerResponse, bytes: number): boolean {
  const declared = res.getHeader('content-length');
  return isBodyless(res) || (declared !== undefined && bytes >= Number(declared));
}

export function lengthOf(chunk: Chunk, encoding: BufferEncoding | undefined): number {
  return typeof chunk === 'string' ? Buffer.byteLength(chunk, encoding) : chunk.byteLength;
}
