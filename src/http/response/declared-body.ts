import type { ServerResponse } from 'node:http';
import type { Chunk } from './buffered-writes.ts';
import { forbidsBody } from './response-head.ts';

/*
 * HEAD makes no difference here. Its response has no body, but the handler of GET sends it: if that handler streams, it
 * never calls `end()`, and the client waits for the head.
 */

/** Whether the response is complete with its headers, since it has no body. */
export function hasEmptyBody(res: ServerResponse): boolean {
  return forbidsBody(res.statusCode) || Number(res.getHeader('content-length') ?? 1) === 0;
}

/** Whether a body is complete with this number of bytes, according to its Content-Length. */
export function isWholeBody(res: ServerResponse, bytes: number): boolean {
  const declared = res.getHeader('content-length');
  return forbidsBody(res.statusCode) || (declared !== undefined && bytes >= Number(declared));
}

export function lengthOf(chunk: Chunk, encoding: BufferEncoding | undefined): number {
  return typeof chunk === 'string' ? Buffer.byteLength(chunk, encoding) : chunk.byteLength;
}
