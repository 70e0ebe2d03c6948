import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { type ByteRange, ifRangeMatches, rangeOf } from '../../http/message/byte-range.ts';
import { isNotModified, type Validators, validatorsOf } from '../../http/message/conditional-request.ts';
import { type Replacement, writeFlatHead } from '../../http/response/guarded-response.ts';
import { setStatus } from '../../http/response/response-head.ts';
import { removeHeaders } from '../../http/response/stored-headers.ts';
import type { Entry } from '../store/entry.ts';
import { type CachedResponse, headersOf } from './cached-response.ts';
import type { CacheSettings } from './options.ts';
import { statusOf, withStatus } from './status.ts';
import { OF_THE_STORED_BODY } from './storable.ts';

/** What a 304 leaves out: it describes a body that is not sent (RFC 9110, section 15.4.5). */
const OF_THE_BODY = new Set([
  'content-encoding',
  'content-language',
  'content-length',
  'content-range',
  'content-type',
]);

/** What a 416 leaves out as well: other caches would keep it for as long, and answer everybody with it. */
const NOT_OF_A_REFUSAL = new Set([...OF_THE_BODY, 'cache-control', 'cdn-cache-control', 'expires']);

/** Names and values in turn, as `writeHead` takes them. */
type FlatHeaders = (string | string[])[];

/** What counts of a request that is answered. */
export type Asking = Pick<IncomingMessage, 'method' | 'headers'>;

/** How a stored response is sent. */
export interface Serving {
  readonly settings: CacheSettings;
  readonly key: string;
  readonly now: number;
  /** What Cache-Status says: 'hit', or how it was forwarded. */
  readonly how: string;
}

/** Answers from a stored response: whole, in part, or that the client has it already. */
export function sendEntry(
  req: Asking,
  res: ServerResponse,
  { content, lifetime, storedAt, freshUntil }: Entry<CachedResponse>,
  { settings, key, now, how }: Serving,
): void {
  // Another answer has begun: whoever began it will end it.
  if (res.headersSent) return;
  removeHeaders(res, content.removed);
  const headers = [...content.flat];
  headers.push('Age', String(Math.max(0, Math.floor((lifetime.ageMs + now - storedAt) / 1000))));
  const status = statusOf(settings, `${how}; ttl=${Math.floor((freshUntil - now) / 1000)}`, key);
  if (status !== undefined) headers.push('Cache-Status', withStatus(res, status));
  const { downstream } = settings;
  sendContent(req, res, content, downstream === undefined ? headers : redirected(headers, downstream));
}

/**
 * Answers with a stored response on a response that has the headers of the 304 which validated it: what the 304 says to this
 * client alone, such as a cookie, is sent too. `isOwn` names headers, in lower case, that stay as they are.
 */
export function sendValidated(
  req: Asking,
  res: ServerResponse,
  content: CachedResponse,
  isOwn: (name: string) => boolean,
): void {
  removeHeaders(res, [...OF_THE_STORED_BODY, ...content.removed]);
  for (const [name, value] of headersOf(content)) if (!isOwn(name.toLowerCase())) res.setHeader(name, value);
  const { status, body } = content;
  setStatus(res, status);
  const replacement = isNotModified(req, content) ? notModified : narrowed(req, wholeOf(content), body);
  if (replacement !== undefined) {
    replacement(res, () => undefined);
    return;
  }
  res.setHeader('Content-Length', String(body.length));
  res.end(body);
}

function sendContent(req: Asking, res: ServerResponse, content: CachedResponse, headers: FlatHeaders): void {
  const { status, body, part: stored } = content;
  if (status === 200 || stored !== undefined) {
    if (isNotModified(req, content)) {
      writeFlatHead(res, 304, without(headers, OF_THE_BODY));
      res.end();
      return;
    }
    const part = req.headers.range === undefined ? undefined : narrowed(req, wholeOf(content), body, stored);
    if (part !== undefined) {
      for (const [name, value] of pairsOf(headers)) res.setHeader(name, value);
      part(res, () => undefined);
      return;
    }
  }
  // RFC 9110, section 8.6: none in a 204.
  if (status !== 204) headers.push('Content-Length', String(body.length));
  writeFlatHead(res, status, headers);
  if (req.method === 'HEAD' || body.length === 0) res.end();
  else res.end(body);
}

/** The complete response that is stored, or that a part of is. */
export function wholeOf({ flat, body, part, ...validators }: CachedResponse): Measured {
  const isEncoded = flat.some((name, at) => at % 2 === 0 && /^content-encoding$/i.test(String(name)));
  return { ...validators, length: part?.length ?? body.length, isEncoded };
}

type Range = Exclude<ReturnType<typeof rangeOf>, undefined>;

/** What of a whole decides which part of it a client gets. */
export interface Measured extends Validators {
  readonly length: number;
  /** Whether it has a content coding. */
  readonly isEncoded: boolean;
}

/** `headers`: with names in lower case. */
export function measured(headers: OutgoingHttpHeaders, length: number): Measured {
  const pairs = ['etag', 'last-modified', 'date'].flatMap((name): [string, string][] => {
    const value = headers[name];
    return value === undefined ? [] : [[name, String(value)]];
  });
  return { length, isEncoded: headers['content-encoding'] !== undefined, ...validatorsOf(pairs) };
}

/** The part of a complete response that the client asks for, if it may have that (RFC 9110, section 14.2). */
export function rangeFor(
  { method, headers }: Asking,
  { length, etag, lastModified, date, isEncoded }: Measured,
): Range | undefined {
  if ((method !== 'GET' && method !== 'QUERY') || headers.range === undefined) return undefined;
  const field = headers['if-range'];
  const ifRange = field === undefined ? undefined : String(field);
  if (!ifRangeMatches(ifRange, etag, lastModified, date)) return undefined;
  // Middleware above may have encoded the whole that this client has, under the same validator.
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

/** Whether it is a part, or a refusal of one, that the client gets of such a whole. */
export function wantsPart(req: Asking, whole: Measured): boolean {
  return rangeFor(req, whole) !== undefined;
}

/** In the place of a response that the handler made whole: the client has it already. */
export const notModified: Replacement = (res) => {
  for (const name of OF_THE_BODY) res.removeHeader(name);
  res.statusCode = 304;
  res.end();
};

/** In the place of a response that was to be made whole, and was not. */
export const cutOff: Replacement = (res) => void res.destroy();

/** A part of a whole, both ends inside; of a refusal there is none. */
export interface Part extends ByteRange {
  readonly isRefused: boolean;
  readonly length: number;
}

/** The part that a client asked for of a whole, or its refusal; undefined for the whole. */
export function partOf(req: Asking, whole: Measured): Part | undefined {
  const range =
    req.headers.range === undefined || isNotModified(req, whole) ? undefined : rangeFor(req, whole);
  if (range === undefined) return undefined;
  const { length } = whole;
  if (range === 'unsatisfiable') return { start: 0, end: -1, isRefused: true, length };
  return { ...range, isRefused: false, length };
}

/** Makes the head of a whole that of a part. */
export function setPartHead(res: ServerResponse, { start, end, isRefused, length }: Part): void {
  if (isRefused) for (const name of NOT_OF_A_REFUSAL) res.removeHeader(name);
  res.statusCode = isRefused ? 416 : 206;
  res.setHeader('Content-Range', `bytes ${isRefused ? '*' : `${start}-${end}`}/${length}`);
  res.setHeader('Content-Length', end - start + 1);
  // Middleware above would encode the part, which is one of the representation as it is.
  if (!res.hasHeader('Content-Encoding')) Object.assign(res.req.headers, { 'accept-encoding': 'identity' });
}

/**
 * In the place of a complete response: the part that the client asked for, where it may have it. `body` is the whole, or the
 * bytes from `start` on.
 */
export function narrowed(
  req: Asking,
  whole: Measured,
  body: Buffer,
  { start }: Pick<ByteRange, 'start'> = { start: 0 },
): Replacement | undefined {
  const part = partOf(req, whole);
  if (part === undefined) return undefined;
  return (res) => {
    setPartHead(res, part);
    res.end(body.subarray(part.start - start, part.end + 1 - start));
  };
}

function redirected(headers: FlatHeaders, downstream: string | false): FlatHeaders {
  const rest = without(headers, new Set(['cache-control']));
  if (downstream !== false) rest.push('Cache-Control', downstream);
  return rest;
}

function without(headers: FlatHeaders, names: ReadonlySet<string>): FlatHeaders {
  return pairsOf(headers).flatMap(([name, value]) => (names.has(name.toLowerCase()) ? [] : [name, value]));
}

function pairsOf(headers: FlatHeaders): [name: string, value: string | string[]][] {
  return headers.flatMap((name, at) => (at % 2 === 0 ? [[String(name), headers[at + 1] ?? '']] : []));
}
