import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { type CacheControl, parseCacheControl } from '../../http/message/cache-control.ts';
import { parseTargeted } from '../../http/message/targeted-cache-control.ts';
import type { LateHeaders } from '../../http/response/guarded-response.ts';
import type { HandlerHeaders } from '../../http/response/handler-headers.ts';
import { varyNames } from './vary.ts';

/** Fields that are never stored: the cache sets them on each response, except Set-Cookie, which is for one client. */
export const UNSTORED_FIELDS: ReadonlySet<string> = new Set([
  'age',
  'cache-status',
  'content-length',
  'set-cookie',
]);

/** The statuses that this cache understands, as `must-understand` requires (RFC 9111, section 5.2.2.3). */
const UNDERSTOOD = new Set([
  ...[200, 203, 204, 300, 301, 302, 303, 307, 308],
  ...[400, 403, 404, 405, 410, 414, 500, 501, 502, 503, 504],
]);

/** The directives by which a response says whether and how long it may be stored. */
export interface Directives {
  /** The directives that set the lifetime: of a well-formed CDN-Cache-Control (RFC 9213), else of Cache-Control. */
  readonly effective: CacheControl;
  /** Whether `effective` is CDN-Cache-Control, which overrides Expires as well. */
  readonly isTargeted: boolean;
  /** The directives of Cache-Control, also when CDN-Cache-Control overrides them. */
  readonly general: CacheControl;
  /** A malformed CDN-Cache-Control. Its lifetime is ignored (RFC 9213, section 2.1), and its prohibitions apply. */
  readonly malformed: CacheControl | undefined;
}

/** The status and headers of a handler's response, and the directives in them. */
export interface HandlerHead {
  readonly status: number;
  /** All headers of the response, including those that earlier middleware has set. */
  readonly headers: OutgoingHttpHeaders;
  /** The headers that the handler itself has set or removed. No other headers are stored. */
  readonly own: HandlerHeaders;
  readonly directives: Directives;
  /** When the head was complete, in milliseconds since the epoch. */
  readonly respondedAt: number;
}

export function directivesOf(headers: OutgoingHttpHeaders): Directives {
  const general = parseCacheControl(headers['cache-control']);
  const { 'cdn-cache-control': value } = headers;
  const field = typeof value === 'number' ? String(value) : value;
  const targeted = parseTargeted(field);
  const malformed = field === undefined || targeted !== undefined ? undefined : parseCacheControl(field);
  return { effective: targeted ?? general, isTargeted: targeted !== undefined, general, malformed };
}

export function readHandlerHead(res: ServerResponse, own: HandlerHeaders): HandlerHead {
  // A copy of the headers, since the kit adds its own from now on.
  const headers = { ...res.getHeaders() };
  return { status: res.statusCode, headers, own, directives: directivesOf(headers), respondedAt: Date.now() };
}

/** The fields that decide whether, how long and for which requests a response may be stored. */
const CACHING_FIELDS = ['cache-control', 'cdn-cache-control', 'pragma', 'expires', 'no-vary-search'];

/**
 * The head with the changes that earlier middleware made while the head was sent; the same object if no change concerns
 * caching. A changed Set-Cookie does not concern caching: earlier middleware sets it on stored responses as well. Nor
 * does `Vary: Accept-Encoding`: earlier compression gets stored responses unencoded, and encodes them for each client.
 */
export function withLateHeaders(head: HandlerHead, late: LateHeaders): HandlerHead {
  const changes = new Map([...late].filter(([name]) => CACHING_FIELDS.includes(name)));
  const before = varyNames(head.headers);
  const names = late.has('vary') ? varyNames({ vary: String(late.get('vary') ?? '') }).split(',') : [];
  const added = names.filter((name) => name !== 'accept-encoding' && !before.split(',').includes(name));
  if (added.length > 0 && added[0] !== '') changes.set('vary', [before, ...added].join(','));
  if (changes.size === 0) return head;
  const headers = { ...head.headers, ...Object.fromEntries(changes) };
  return { ...head, headers, directives: directivesOf(headers) };
}

/** Whether a body has its declared length, if any. Otherwise it was cut off, or is not the handler's. */
export function isWholeBody(head: HandlerHead | undefined, body: Buffer): boolean {
  const declared = head?.headers['content-length'];
  return declared === undefined || head?.status === 304 || Number(declared) === body.length;
}

export interface StorageRules {
  /** The statuses in the option `statuses`; undefined for the defaults. */
  readonly statuses: ReadonlySet<number> | undefined;
  readonly mayVaryOn: ReadonlySet<string> | undefined;
  /** Whether the app sets the lifetime. Then the prohibitions of Cache-Control apply even beside CDN-Cache-Control. */
  readonly hasTtl: boolean;
  /** Whether the response can be validated before each use, as `no-cache` requires. */
  readonly isValidatable: boolean;
}

/** Why a response must not be stored, as the event `cache:skipped` reports it; undefined if it may be stored. */
export function reasonNotToStore(
  { status, headers, directives }: HandlerHead,
  rules: StorageRules,
): string | undefined {
  if (!mayStoreStatus(status, rules)) return 'status';
  if (headers['set-cookie'] !== undefined) return 'set-cookie';
  if (hasRange(status, headers)) return 'partial';
  if (headers.trailer !== undefined) return 'trailer';
  if (/^text\/event-stream/i.test(String(headers['content-type'] ?? ''))) return 'event-stream';
  for (const control of applicableControls(directives, rules.hasTtl)) {
    // A cache that supports must-understand ignores no-store beside it (RFC 9111, section 5.2.2.3).
    if (control.has('no-store') && (rules.hasTtl || !control.has('must-understand'))) return 'no-store';
    // With field names, private and no-cache concern only those fields, which are not stored.
    if (isWhole(control, 'private')) return 'private';
    if (isWhole(control, 'no-cache') && !rules.isValidatable) return 'no-cache';
  }
  if (directives.effective.has('must-understand') && !UNDERSTOOD.has(status)) return 'status';
  const names = varyNames(headers);
  if (names === '*') return 'vary';
  if (rules.mayVaryOn !== undefined && names !== '') {
    for (const name of names.split(',')) if (!rules.mayVaryOn.has(name)) return 'vary';
  }
  return undefined;
}

/** Whether Content-Range has a meaning: only a 206 or a 416 has one (RFC 9110, section 14.4). */
function hasRange(status: number, headers: OutgoingHttpHeaders): boolean {
  return (status === 206 || status === 416) && headers['content-range'] !== undefined;
}

/** Whether a response must be validated before each use, as `no-cache` requires (RFC 9111, section 5.2.2.4). */
export function needsValidation(directives: Directives, hasTtl: boolean): boolean {
  return applicableControls(directives, hasTtl).some((control) => isWhole(control, 'no-cache'));
}

/** Whether each use of a response can be validated. It needs an ETag: two users' content may share a Last-Modified. */
export function hasEtag(status: number, { set }: HandlerHeaders): boolean {
  return status === 200 && set.some(([name]) => name.toLowerCase() === 'etag');
}

/** Whether a response can be validated when it is stale, by its ETag or its Last-Modified. */
export function hasValidator(status: number, own: HandlerHeaders): boolean {
  const hasModified = () => own.set.some(([name]) => name.toLowerCase() === 'last-modified');
  return hasEtag(status, own) || (status === 200 && hasModified());
}

/** Whether a directive without field names is present: it applies to the whole response. */
function isWhole(control: CacheControl, name: 'private' | 'no-cache'): boolean {
  return control.fields(name)?.length === 0;
}

/** The directives whose prohibitions apply to a response. With the app's `ttl`, Cache-Control is always among them. */
export function applicableControls(directives: Directives, hasTtl: boolean): readonly CacheControl[] {
  const { effective, general, malformed } = directives;
  const controls = hasTtl ? [effective, general] : [effective];
  return malformed === undefined ? controls : [...controls, malformed];
}

function mayStoreStatus(status: number, { statuses, hasTtl }: StorageRules): boolean {
  if (statuses !== undefined) return statuses.has(status);
  if (hasTtl) return status === 200;
  return status >= 200 && status <= 599 && status !== 206 && status !== 304;
}

/** Whether the response to a request with Authorization may answer other requests (RFC 9111, section 3.5). */
export function isForAll({ effective }: Directives): boolean {
  return effective.has('public') || effective.has('must-revalidate') || effective.has('s-maxage');
}
