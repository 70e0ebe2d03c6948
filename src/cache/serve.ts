import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Replacement, writeFlatHead } from '../http/before-end.ts';
import { ifRangeMatches, rangeOf } from '../http/byte-range.ts';
import { isNotModified, type Validators } from '../http/conditional.ts';
import { removeHeaders } from '../http/own-headers.ts';
import type { CachedResponse } from './cached-response.ts';
import type { Entry } from './entry.ts';
import type { CacheSettings } from './options.ts';
import { statusOf, withStatus } from './status.ts';

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
type Asking = Pick<IncomingMessage, 'method' | 'headers'>;

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

function sendContent(req: Asking, res: ServerResponse, content: CachedResponse, headers: FlatHeaders): void {
  const { status, body } = content;
  if (status === 200) {
    if (isNotModified(req, content)) {
      writeFlatHead(res, 304, without(headers, OF_THE_BODY));
      res.end();
      return;
    }
    const part = narrowed(req, content);
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

type Range = Exclude<ReturnType<typeof rangeOf>, undefined>;

type Whole = Pick<CachedResponse, 'body'> & Validators;

type Measured = { readonly length: number } & Validators;

/** The part of a complete response that the client asks for, if it may have that (RFC 9110, section 14.2). */
function rangeFor(
  { method, headers }: Asking,
  { length, etag, lastModified, date }: Measured,
): Range | undefined {
  const field = headers['if-range'];
  const ifRange = field === undefined ? undefined : String(field);
  if (method !== 'GET' || !ifRangeMatches(ifRange, etag, lastModified, date)) return undefined;
  return headers.range === undefined ? undefined : rangeOf(headers.range, length);
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

/** In the place of a response that the handler made whole: the part that the client asked for, where it may have it. */
export function narrowed(req: Asking, whole: Whole): Replacement | undefined {
  const range =
    req.headers.range === undefined ? undefined : rangeFor(req, { ...whole, length: whole.body.length });
  if (range === undefined) return undefined;
  return (res) => {
    if (range === 'unsatisfiable') for (const name of NOT_OF_A_REFUSAL) res.removeHeader(name);
    const { start, end } = range === 'unsatisfiable' ? { start: 0, end: -1 } : range;
    const part = whole.body.subarray(start, end + 1);
    const told = range === 'unsatisfiable' ? '*' : `${start}-${end}`;
    res.statusCode = range === 'unsatisfiable' ? 416 : 206;
    res.setHeader('Content-Range', `bytes ${told}/${whole.body.length}`);
    res.setHeader('Content-Length', part.length);
    res.end(part);
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
