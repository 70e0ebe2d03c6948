import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { isNotModified } from '../../http/message/conditional-request.ts';
import { tokenOrString } from '../../http/message/structured-field.ts';
import { closeIfBegun } from '../../http/response/begun-response.ts';
import { endWithText, takesEncodedText } from '../../http/response/end-with-text.ts';
import { isHeadOpen, type Replacement, writeFlatHead } from '../../http/response/guarded-response.ts';
import { setStatus } from '../../http/response/response-head.ts';
import { removeHeaders } from '../../http/response/stored-headers.ts';
import { type Entry, usabilityOf } from '../store/entry.ts';
import { bodyText, type CachedResponse, headersOf } from './cached-response.ts';
import type { CacheSettings } from './options.ts';
import {
  cutOff,
  NOT_MODIFIED_OMITS,
  notModified,
  type RangeRequest,
  rangeFor,
  rangeReplacement,
  representationOf,
  wholeOf,
} from './range-response.ts';
import type { HandlerHead } from './storable.ts';
import { ERROR_STATUSES, type HandlerRun } from './storage-decision.ts';
import { BODY_FIELDS } from './validated-response.ts';

interface ClientResponseOptions extends Pick<SendOptions, 'settings' | 'key'> {
  /** Why the handler runs, as the parameter `fwd` of Cache-Status. */
  readonly forwarded: string;
  readonly now: () => number;
  /** Called when the stale response is sent in place of the handler's error. */
  fellBack(): void;
}

/** Decides which response the client gets: the handler's, a part of it, a 304, or a stored response. */
export class ClientResponse {
  readonly #res: ServerResponse;
  readonly #run: HandlerRun;
  readonly #options: ClientResponseOptions;
  /** Sends another response in place of the handler's; undefined if the handler's response is sent. */
  replacement: Replacement | undefined;

  constructor(res: ServerResponse, run: HandlerRun, options: ClientResponseOptions) {
    this.#res = res;
    this.#run = run;
    this.#options = options;
  }

  /**
   * Decides by the complete head of the handler's response. `skippedFor` is the reason not to store the response, if
   * one is already known. With `sendsPart` the client gets a part of the response while the handler streams.
   */
  begin(head: HandlerHead, skippedFor: string | undefined, sendsPart: boolean): void {
    const { fallback, conditions } = this.#run;
    const { forwarded, now } = this.#options;
    const isFallbackUsable = fallback !== undefined && usabilityOf(fallback, now()) !== 'invalid';
    if (isFallbackUsable && ERROR_STATUSES.has(head.status)) {
      this.replacement = (res, reset) => this.#sendFallback(res, reset, fallback, head.status);
      return;
    }
    this.#describe(head.headers, skippedFor, forwarded);
    if (head.status !== 200 || sendsPart) return;
    const whole = representationOf(head.headers, Number(head.headers['content-length'] ?? Number.NaN));
    const isBuffered = skippedFor === undefined && whole.length >= 0;
    if (isNotModified(conditions.request, whole)) this.replacement = notModified;
    // A body that may be stored fits into the buffer, from which a part is sent at the end. No part is sent of a body
    // that is cut off.
    else if (isBuffered && rangeFor(conditions.request, whole) !== undefined) this.replacement = cutOff;
  }

  /** Decides to send a stored response, which the handler's 304 has validated. */
  beginValidated(response: CachedResponse, skippedFor: string | undefined): void {
    const { settings, forwarded } = this.#options;
    this.#describe({ 'content-length': response.body.length }, skippedFor, `${forwarded}; fwd-status=304`);
    const hasDownstream = skippedFor === undefined && settings.downstream !== undefined;
    const isKept = (name: string) => hasDownstream && name === 'cache-control';
    this.replacement = (res) => sendValidated(this.#run.conditions.request, res, response, isKept);
  }

  /** If the client asked for a part, replaces the complete response by that part or by a 416. */
  narrow(head: HandlerHead | undefined, body: Buffer): void {
    if (head?.status !== 200) return;
    if (this.replacement !== undefined && this.replacement !== cutOff) return;
    const whole = representationOf(head.headers, body.length);
    this.replacement = rangeReplacement(this.#run.conditions.request, whole, body);
  }

  /** Sets Cache-Status, and the Cache-Control of the option `downstream`. */
  #describe(headers: OutgoingHttpHeaders, skippedFor: string | undefined, forwarded: string): void {
    const { settings, key } = this.#options;
    // Only a declared length shows, before the body is sent, that the body is not too large.
    const willBeStored = skippedFor === undefined && headers['content-length'] !== undefined;
    const hasDetail = settings.debug && skippedFor !== undefined;
    const detail = hasDetail ? `; detail=${tokenOrString(skippedFor)}` : '';
    const outcome = willBeStored ? '; stored' : detail;
    addStatus(this.#res, statusOf(settings, `${forwarded}${outcome}`, key));
    if (skippedFor !== undefined || settings.downstream === undefined) return;
    if (settings.downstream === false) this.#res.removeHeader('Cache-Control');
    else this.#res.setHeader('Cache-Control', settings.downstream);
  }

  #sendFallback(res: ServerResponse, reset: () => void, entry: Entry<CachedResponse>, failure: number): void {
    const { settings, key, now, fellBack } = this.#options;
    fellBack();
    reset();
    const status = `fwd=stale; fwd-status=${failure}`;
    sendStored(this.#run.conditions.request, res, entry, { settings, key, now: now(), status });
  }
}

/** Header names alternate with their values, as `writeHead` takes them. */
type FlatHeaders = (string | string[])[];

interface SendOptions {
  readonly settings: CacheSettings;
  /** The cache key, for Cache-Status. */
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
  if (closeIfBegun(res)) return;
  removeHeaders(res, content.removed);
  const headers = [...content.flat];
  headers.push('Age', String(Math.max(0, Math.floor((lifetime.ageMs + now - storedAt) / 1000))));
  const cacheStatus = statusOf(settings, `${status}; ttl=${Math.floor((freshUntil - now) / 1000)}`, key);
  if (cacheStatus !== undefined) headers.push('Cache-Status', withStatus(res, cacheStatus));
  const { downstream } = settings;
  sendContent(req, res, content, downstream === undefined ? headers : withDownstream(headers, downstream));
}

/**
 * Sends a stored response in place of the handler's 304. The headers of the 304 are sent too, such as a cookie for this
 * client. `isKept` is true for lower-case names of headers that the stored response must not replace.
 */
function sendValidated(
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
      for (const [name, value] of headersOf({ flat: headers })) res.setHeader(name, value);
      replacement(res, () => undefined);
      return;
    }
  }
  // A 204 has no Content-Length (RFC 9110, section 8.6).
  if (status !== 204) headers.push('Content-Length', String(body.length));
  writeFlatHead(res, status, headers);
  if (req.method === 'HEAD' || body.length === 0) res.end();
  else endWithBody(res, content);
}

function endWithBody(res: ServerResponse, content: CachedResponse): void {
  const text = takesEncodedText(res) ? bodyText(content) : undefined;
  if (text === undefined) res.end(content.body);
  else endWithText(res, text);
}

/** The headers with the Cache-Control that the option `downstream` sets, or without any. */
function withDownstream(headers: FlatHeaders, downstream: string | false): FlatHeaders {
  const rest = without(headers, new Set(['cache-control']));
  if (downstream !== false) rest.push('Cache-Control', downstream);
  return rest;
}

function without(headers: FlatHeaders, names: ReadonlySet<string>): FlatHeaders {
  return headersOf({ flat: headers }).flatMap(([name, value]) =>
    names.has(name.toLowerCase()) ? [] : [name, value],
  );
}

/** The member of Cache-Status for this cache (RFC 9211, section 2); undefined if the option `cacheStatus` is off. */
export function statusOf(settings: CacheSettings, parameters: string, key: string): string | undefined {
  if (settings.cacheStatus === undefined) return undefined;
  const shown = settings.debug ? `; key=${quoted(key)}` : '';
  return `${settings.cacheStatus}; ${parameters}${shown}`;
}

/**
 * The parameter `fwd` of a forwarded request (RFC 9211, section 2.2). `fwd=request` means that the directives of the
 * request do not accept the fresh response.
 */
export function whyForwarded(stored: Entry<unknown> | undefined, now: number, miss: string): string {
  if (stored === undefined) return miss;
  return usabilityOf(stored, now) === 'fresh' ? 'fwd=request' : 'fwd=stale';
}

/** The value of Cache-Status with a new member, after the members that the response already has. */
function withStatus(res: ServerResponse, status: string): string {
  const before = res.getHeader('Cache-Status');
  return before === undefined ? status : `${String(before)}, ${status}`;
}

export function addStatus(res: ServerResponse, status: string | undefined): void {
  if (status !== undefined && isHeadOpen(res)) res.setHeader('Cache-Status', withStatus(res, status));
}

/** A String of structured fields, which allows only printable ASCII (RFC 9651, section 3.3.3): the rest is encoded. */
function quoted(key: string): string {
  // The buffer replaces lone surrogates, for which `encodeURIComponent` throws.
  const printable = Buffer.from(key)
    .toString()
    .replace(/[^ -~]/gu, encodeURIComponent);
  return `"${printable.replace(/["\\]/g, '\\$&')}"`;
}
