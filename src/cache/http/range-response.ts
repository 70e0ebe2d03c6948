import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { type ByteRange, ifRangeMatches, rangeOf } from '../../http/message/byte-range.ts';
import { isNotModified, type Validators, validatorsOf } from '../../http/message/conditional-request.ts';
import { trimWhitespace } from '../../http/message/optional-whitespace.ts';
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

/** The fields that a 416 omits. With a lifetime, another cache could answer every request with the 416. */
const UNSATISFIABLE_OMITS = new Set([...NOT_MODIFIED_OMITS, 'cache-control', 'cdn-cache-control', 'expires']);

export type RangeRequest = Pick<IncomingMessage, 'method' | 'headers'>;

/** The properties of a whole representation that decide which part of it a request gets. */
export interface Representation extends Validators {
  readonly length: number;
  /** Whether the representation has a Content-Encoding. */
  readonly isEncoded: boolean;
}

/** The bytes `start` to `end`, inclusive, of a representation. With `isUnsatisfiable` the part is empty, for a 416. */
export interface RangePart extends ByteRange {
  readonly isUnsatisfiable: boolean;
  /** The length of the whole representation in bytes. */
  readonly length: number;
}

/** The representation to which a stored response belongs. A stored part has the length of its whole. */
export function wholeOf(response: CachedResponse): Representation {
  const { body, part } = response;
  const isEncoded = codingOf(response) !== undefined;
  return { ...response, length: part?.length ?? body.length, isEncoded };
}

/** The representation that response headers describe. The header names are in lower case. */
export function representationOf(headers: OutgoingHttpHeaders, length: number): Representation {
  const pairs = ['etag', 'last-modified', 'date'].flatMap((name): [string, string][] => {
    const value = headers[name];
    return value === undefined ? [] : [[name, String(value)]];
  });
  return { length, isEncoded: headers['content-encoding'] !== undefined, ...validatorsOf(pairs) };
}

/** The range of a representation that a request gets (RFC 9110, section 14.2); undefined if it gets the whole. */
export function rangeFor(
  { method, headers }: RangeRequest,
  { length, etag, lastModified, date, isEncoded }: Representation,
): ReturnType<typeof rangeOf> {
  if ((method !== 'GET' && method !== 'QUERY') || headers.range === undefined) return undefined;
  const field = headers['if-range'];
  const ifRange = field === undefined ? undefined : String(field);
  if (!ifRangeMatches(ifRange, etag, lastModified, date)) return undefined;
  // The client may have received the whole in a coding that earlier middleware applied under the same validator.
  if (ifRange !== undefined && !isEncoded && acceptsCoding(String(headers['accept-encoding'] ?? '')))
    return undefined;
  return rangeOf(headers.range, length);
}

function acceptsCoding(field: string): boolean {
  return field.split(',').some((member) => {
    const [coding = '', ...parameters] = member.toLowerCase().split(';').map(trimWhitespace);
    return coding !== '' && coding !== 'identity' && !parameters.some((each) => /^q=0(\.0*)?$/.test(each));
  });
}

/** Replaces a handler's response with a 304, for a client that already has the representation. */
export const notModified: Replacement = (res) => {
  for (const name of NOT_MODIFIED_OMITS) res.removeHeader(name);
  res.statusCode = 304;
  res.end();
};

/** Destroys a response that its handler did not complete and of which the client asked for a part. */
export const cutOff: Replacement = (res) => void res.destroy();

/** The part that a request gets of a representation; undefined if the request gets the whole or a 304. */
function partFor(req: RangeRequest, whole: Representation): RangePart | undefined {
  const range =
    req.headers.range === undefined || isNotModified(req, whole) ? undefined : rangeFor(req, whole);
  if (range === undefined) return undefined;
  const { length } = whole;
  if (range === 'unsatisfiable') return { start: 0, end: -1, isUnsatisfiable: true, length };
  return { ...range, isUnsatisfiable: false, length };
}

/** Turns the head of a whole response into the head of a 206 or a 416. */
function setPartHead(res: ServerResponse, { start, end, isUnsatisfiable, length }: RangePart): void {
  if (isUnsatisfiable) for (const name of UNSATISFIABLE_OMITS) res.removeHeader(name);
  res.statusCode = isUnsatisfiable ? 416 : 206;
  res.setHeader('Content-Range', `bytes ${isUnsatisfiable ? '*' : `${start}-${end}`}/${length}`);
  res.setHeader('Content-Length', end - start + 1);
  // Earlier middleware would encode the part, but a range refers to bytes of the unencoded representation.
  if (!res.hasHeader('Content-Encoding')) Object.assign(res.req.headers, { 'accept-encoding': 'identity' });
}

/** The replacement that sends a part; undefined if the whole is sent. `body` starts at byte `start` of `whole`. */
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

/** The part to send of a streamed response; undefined if the handler supports no ranges, or to send the whole. */
export function streamedPart(request: RangeRequest, res: ServerResponse): RangePart | undefined {
  const accepted = String(res.getHeader('accept-ranges') ?? '');
  const declared = res.getHeader('content-length');
  // A response with Accept-Ranges shows that the handler would send the part itself if the cache had not removed Range.
  if (res.statusCode !== 200 || !/(?:^|,)[ \t]*bytes[ \t]*(?:,|$)/i.test(accepted) || declared === undefined)
    return undefined;
  const length = Number(declared);
  if (!Number.isSafeInteger(length)) return undefined;
  return partFor(request, representationOf(res.getHeaders(), length));
}

/**
 * Sends only a part of the whole response that a handler streams. `begin` is called once, before the headers or the
 * first byte are sent. It returns the part; undefined to send the whole.
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

  /** The bytes of a `write()` or `end()` in the part, and its callback; undefined for a call to pass on unchanged. */
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
