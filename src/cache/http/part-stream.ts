import type { ServerResponse } from 'node:http';
import { type Call, callOf, isChunk } from '../../http/response/buffered-writes.ts';
import { type Asking, measured, type Part, partOf, setPartHead } from './serve.ts';

/** What a response must have said before a part of it may be sent while it streams. */
export function streamedPart(request: Asking, res: ServerResponse): Part | undefined {
  const accepted = String(res.getHeader('accept-ranges') ?? '');
  const declared = res.getHeader('content-length');
  // Without the kit its handler would have answered the part: it says that it can.
  if (res.statusCode !== 200 || !/(?:^|,)\s*bytes\s*(?:,|$)/i.test(accepted) || declared === undefined)
    return undefined;
  const length = Number(declared);
  return Number.isSafeInteger(length) ? partOf(request, measured(res.getHeaders(), length)) : undefined;
}

/**
 * Sends the part that a client asked for of a response that its handler makes whole and that is not stored. `begin` is
 * called when the handler sends its first byte or the headers, and tells the part.
 */
export function sendStreamedPart(res: ServerResponse, begin: () => Part | undefined): void {
  const { write, end, flushHeaders } = res;
  let part: Part | 'whole' | undefined;
  let position = 0;

  function partNow(): Part | undefined {
    if (part === undefined) {
      part = begin() ?? 'whole';
      if (part === 'whole') Object.assign(res, { write, end, flushHeaders });
      else setPartHead(res, part);
    }
    return part === 'whole' ? undefined : part;
  }

  /** The bytes of a chunk that are inside of the part. */
  function inside({ chunk, encoding }: Call, { start, end: last }: Part): Buffer {
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
