import type { ServerResponse } from 'node:http';
import { type Call, callOf, isChunk } from '../../http/response/buffered-writes.ts';
import {
  partFor,
  type RangePart,
  type RangeRequest,
  representationOf,
  setPartHead,
} from './range-response.ts';

/** The part that a request gets of a response while it streams; undefined if the response does not allow that. */
export function streamedPart(request: RangeRequest, res: ServerResponse): RangePart | undefined {
  const accepted = String(res.getHeader('accept-ranges') ?? '');
  const declared = res.getHeader('content-length');
  // Accept-Ranges shows that without the cache the handler would send the part itself.
  if (res.statusCode !== 200 || !/(?:^|,)\s*bytes\s*(?:,|$)/i.test(accepted) || declared === undefined)
    return undefined;
  const length = Number(declared);
  return Number.isSafeInteger(length)
    ? partFor(request, representationOf(res.getHeaders(), length))
    : undefined;
}

/**
 * Sends only a part of the whole response that a handler streams. `begin` is called when the handler sends the headers or its
 * first byte, and returns the part.
 */
export function sendStreamedPart(res: ServerResponse, begin: () => RangePart | undefined): void {
  const { write, end, flushHeaders } = res;
  let part: RangePart | 'whole' | undefined;
  let position = 0;

  function partNow(): RangePart | undefined {
    if (part === undefined) {
      part = begin() ?? 'whole';
      if (part === 'whole') Object.assign(res, { write, end, flushHeaders });
      else setPartHead(res, part);
    }
    return part === 'whole' ? undefined : part;
  }

  /** The bytes of a chunk that belong to the part. */
  function inside({ chunk, encoding }: Call, { start, end: last }: RangePart): Buffer {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding) : Buffer.from(chunk as Uint8Array);
    const from = position;
    position += bytes.length;
    return bytes.subarray(Math.max(0, start - from), Math.max(0, last + 1 - from));
  }

  Object.assign(res, {
    write(this: ServerResponse, ...args: unknown[]): unknown {
      const now = partNow();
      const call = callOf(args);
      if (now === undefined || !isChunk(call.chunk)) return Reflect.apply(write, this, args);
      const bytes = inside(call, now);
      if (bytes.length > 0)
        return Reflect.apply(write, this, [bytes, ...(call.done === undefined ? [] : [call.done])]);
      if (call.done !== undefined) process.nextTick(call.done);
      return true;
    },
    end(this: ServerResponse, ...args: unknown[]): unknown {
      const now = partNow();
      const call = callOf(args);
      if (now === undefined || !isChunk(call.chunk)) return Reflect.apply(end, this, args);
      return Reflect.apply(end, this, [inside(call, now), ...(call.done === undefined ? [] : [call.done])]);
    },
    flushHeaders(this: ServerResponse): void {
      partNow();
      Reflect.apply(flushHeaders, this, []);
    },
  });
}
