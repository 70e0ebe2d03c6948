import type { ServerResponse } from 'node:http';
import { isNotModified } from '../../http/message/conditional-request.ts';
import { writeFlatHead } from '../../http/response/guarded-response.ts';
import { setStatus } from '../../http/response/response-head.ts';
import { removeHeaders } from '../../http/response/stored-headers.ts';
import type { Entry } from '../store/entry.ts';
import { statusOf, withStatus } from './cache-status.ts';
import { type CachedResponse, headersOf } from './cached-response.ts';
import type { CacheSettings } from './options.ts';
import {
  NOT_MODIFIED_OMITS,
  notModified,
  type RangeRequest,
  rangeReplacement,
  wholeOf,
} from './range-response.ts';
import { BODY_FIELDS } from './validated-response.ts';

/** Names and values in turn, as `writeHead` takes them. */
type FlatHeaders = (string | string[])[];

/** How a stored response is sent. */
export interface SendOptions {
  readonly settings: CacheSettings;
  readonly key: string;
  readonly now: number;
  /** The value of Cache-Status: `hit`, or why the request was forwarded. */
  readonly status: string;
}

/** Sends a stored response: whole, as a part, or as a 304. */
export function sendStored(
  req: RangeRequest,
  res: ServerResponse,
  { content, lifetime, storedAt, freshUntil }: Entry<CachedResponse>,
  { settings, key, now, status }: SendOptions,
): void {
  // Another middleware has begun to respond, and ends that response.
  if (res.headersSent) return;
  removeHeaders(res, content.removed);
  const headers = [...content.flat];
  headers.push('Age', String(Math.max(0, Math.floor((lifetime.ageMs + now - storedAt) / 1000))));
  const cacheStatus = statusOf(settings, `${status}; ttl=${Math.floor((freshUntil - now) / 1000)}`, key);
  if (cacheStatus !== undefined) headers.push('Cache-Status', withStatus(res, cacheStatus));
  const { downstream } = settings;
  sendContent(req, res, content, downstream === undefined ? headers : withDownstream(headers, downstream));
}

/**
 * Sends a stored response in place of the handler's 304 that validated it. The headers of the 304 are sent too, such as a
 * cookie for this client. `isKept` names headers, in lower case, that the stored response does not replace.
 */
export function sendValidated(
  req: RangeRequest,
  res: ServerResponse,
  content: CachedResponse,
  isKept: (name: string) => boolean,
): void {
  removeHeaders(res, [...BODY_FIELDS, ...content.removed]);
  for (const [name, value] of headersOf(content)) if (!isKept(name.toLowerCase())) res.setHeader(name, value);
  const { status, body } = content;
  setStatus(res, status);
  const whole = wholeOf(content);
  const replacement = isNotModified(req, content) ? notModified : rangeReplacement(req, whole, body);
  if (replacement !== undefined) {
    replacement(res, () => undefined);
    return;
  }
  res.setHeader('Content-Length', String(body.length));
  res.end(body);
}

function sendContent(
  req: RangeRequest,
  res: ServerResponse,
  content: CachedResponse,
  headers: FlatHeaders,
): void {
  const { status, body, part } = content;
  if (status === 200 || part !== undefined) {
    if (isNotModified(req, content)) {
      writeFlatHead(res, 304, without(headers, NOT_MODIFIED_OMITS));
      res.end();
      return;
    }
    const hasRange = req.headers.range !== undefined;
    const replacement = hasRange ? rangeReplacement(req, wholeOf(content), body, part) : undefined;
    if (replacement !== undefined) {
      for (const [name, value] of pairsOf(headers)) res.setHeader(name, value);
      replacement(res, () => undefined);
      return;
    }
  }
  // A 204 has no Content-Length (RFC 9110, section 8.6).
  if (status !== 204) headers.push('Content-Length', String(body.length));
  writeFlatHead(res, status, headers);
  if (req.method === 'HEAD' || body.length === 0) res.end();
  else res.end(body);
}

/** The headers with the Cache-Control of the option `downstream`. */
function withDownstream(headers: FlatHeaders, downstream: string | false): FlatHeaders {
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
