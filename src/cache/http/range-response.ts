import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { type ByteRange, ifRangeMatches, rangeOf } from '../../http/message/byte-range.ts';
import { isNotModified, type Validators, validatorsOf } from '../../http/message/conditional-request.ts';
import { callOf, isChunk } from '../../http/response/buffered-writes.ts';
import type { Replacement } from '../../http/response/guarded-response.ts';
import { type CachedResponse, codingOf } from './cached-response.ts';

/** The fields that a 304 omits, since they describe a body that is not sent (RFC 9110, section 15.4.5). */
export const NOT_MODIFIED_OMITS: ReadonlySet<string> = new Set([
  'content-encoding',
  'content-language',
  'content-length',
  'content-range',
  'content-type',
]);

/** The fields that a 416 omits: with a lifetime, other caches would answer every request with it. */
const UNSATISFIABLE_OMITS = new Set([...NOT_MODIFIED_OMITS, 'cache-control', 'cdn-cache-control', 'expires']);

export type RangeRequest = Pick<IncomingMessage, 'method' | 'headers'>;

/** The properties of a whole representation that decide which part of it a request gets. */
export interface Representation extends Validators {
  readonly length: number;
  /** Whether it has a content coding. */
  readonly isEncoded: boolean;
}

/** A part of a representation; `start` and `end` are both in it. With `isUnsatisfiable` it is empty, for a 416. */
export interface RangePart extends ByteRange {
  readonly isUnsatisfiable: boolean;
  /** The length of the whole. */
  readonly length: number;
}

/** The whole representation of a stored response, which may be only a part of it. */
export function wholeOf(response: CachedResponse): Representation {
  const { body, part } = response;
  const isEncoded = codingOf(response) !== undefined;
  return { ...response, length: part?.length ?? body.length, isEncoded };
}

/** `headers` has names in lower case. */
export function representationOf(headers: OutgoingHttpHeaders, length: number): Representation {
  const pairs = ['etag', 'last-modified', 'date'].flatMap((name): [string, string][] => {
    const value = headers[name];
    return value === undefined ? [] : [[name, String(value)]];
  });
  return { length, isEncoded: headers['content-encoding'] !== undefined, ...validatorsOf(pairs) };
}

/** The range of a whole that a request gets (RFC 9110, section 14.2); undefined if it gets the whole. */
export function rangeFor(
  { method, headers }: RangeRequest,
  { length, etag, lastModified, date, isEncoded }: Representation,
): ReturnType<typeof rangeOf> {
  if ((method !== 'GET' && method !== 'QUERY') || headers.range === undefined) return undefined;
  const field = headers['if-range'];
  const ifRange = field === undefined ? undefined : String(field);
  if (!ifRangeMatches(ifRange, etag, lastModified, date)) return undefined;
  // The client may have the whole in an encoding that middleware above the cache applied under the same validator.
  if (ifRange !== undefined && !isEncoded && acceptsCoding(String(headers['accept-encoding'] ?? '')))
    return undefined;
  return rangeOf(headers.range, length);
}

function acceptsCoding(field: string): boolean {
  return field.split(',').some((member) => {
    const [coding = '', ...parameters] = member
      .toLowerCase()
      .split(';')
      .map((part) => part.trim());
    return coding !== '' && coding !== 'identity' && !parameters.some((each) => /^q=0(\.0*)?$/.test(each));
  });
}

/** Replaces a handler's whole response that the client has already. */
export const notModified: Replacement = (res) => {
  for (const name of NOT_MODIFIED_OMITS) res.removeHeader(name);
  res.statusCode = 304;
  res.end();
};

/** Replaces a response whose handler did not complete it, although its client waits for a part of it. */
export const cutOff: Replacement = (res) => void res.destroy();

/** The part that a request gets of a whole; undefined if it gets the whole or a 304. */
function partFor(req: RangeRequest, whole: Representation): RangePart | undefined {
  const range =
    req.headers.range === undefined || isNotModified(req, whole) ? undefined : rangeFor(req, whole);
  if (range === undefined) return undefined;
  const { length } = whole;
  if (range === 'unsatisfiable') return { start: 0, end: -1, isUnsatisfiable: true, length };
  return { ...range, isUnsatisfiable: false, length };
}

/** Turns the head of a whole response into that of a part. */
function setPartHead(res: ServerResponse, { start, end, isUnsatisfiable, length }: RangePart): void {
  if (isUnsatisfiable) for (const name of UNSATISFIABLE_OMITS) res.removeHeader(name);
  res.statusCode = isUnsatisfiable ? 416 : 206;
  res.setHeader('Content-Range', `bytes ${isUnsatisfiable ? '*' : `${start}-${end}`}/${length}`);
  res.setHeader('Content-Length', end - start + 1);
  // Middleware above the cache would encode the part, but a range counts the bytes of the unencoded representation.
  if (!res.hasHeader('Content-Encoding')) Object.assign(res.req.headers, { 'accept-encoding': 'identity' });
}

/** Sends the part of a whole that a request gets. `body` is the whole, or its bytes from `start` on. */
export function rangeReplacement(
  req: RangeRequest,
  whole: Representation,
  body: Buffer,
  { start }: Pick<ByteRange, 'start'> = { start: 0 },
): Replacement | undefined {
  const part = partFor(req, whole);
  if (part === undefined) return undefined;
  return (res) => {
    setPartHead(res, part);
    res.end(body.subarray(part.start - start, part.end + 1 - start));
  };
}

/** The part that a request gets of a response while it streams; undefined if the response does not allow that. */
export function streamedPart(request: RangeRequest, res: ServerResponse): RangePart | undefined {
  const accepted = String(res.getHeader('accept-ranges') ?? '');
  const declared = res.getHeader('content-length');
  // Accept-Ranges shows that without the cache the handler would send the part itself.
  if (res.statusCode !== 200 || !/(?:^|,)\s*bytes\s*(?:,|$)/i.test(accepted) || declared === undefined)
    return undefined;
  const length = Number(declared);
  if (!Number.isSafeInteger(length)) return undefined;
  return partFor(request, representationOf(res.getHeaders(), length));
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

  /** The bytes of a call that belong to the part, and its callback; undefined for a call to be passed on unchanged. */
  function partOf(
    args: unknown[],
  ): { readonly bytes: Buffer; readonly done: readonly (() => void)[] } | undefined {
    const now = partNow();
    const { chunk, encoding, done } = callOf(args);
    if (now === undefined || !isChunk(chunk)) return undefined;
    const sent = typeof chunk === 'string' ? Buffer.from(chunk, encoding) : Buffer.from(chunk as Uint8Array);
    const bytes = sent.subarray(Math.max(0, now.start - position), Math.max(0, now.end + 1 - position));
    position += sent.length;
    return { bytes, done: done === undefined ? [] : [done] };
  }

  Object.assign(res, {
    write(this: ServerResponse, ...args: unknown[]): unknown {
      const inside = partOf(args);
      if (inside === undefined) return Reflect.apply(write, this, args);
      const { bytes, done } = inside;
      if (bytes.length > 0) return Reflect.apply(write, this, [bytes, ...done]);
      for (const callback of done) process.nextTick(callback);
      return true;
    },
    end(this: ServerResponse, ...args: unknown[]): unknown {
      const inside = partOf(args);
      return Reflect.apply(end, this, inside === undefined ? args : [inside.bytes, ...inside.done]);
    },
    flushHeaders(this: ServerResponse): void {
      partNow();
      Reflect.apply(flushHeaders, this, []);
    },
  });
}
