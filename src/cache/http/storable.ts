import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { type CacheControl, parseCacheControl } from '../../http/message/cache-control.ts';
import { parseTargeted } from '../../http/message/targeted-cache-control.ts';
import type { LateHeaders } from '../../http/response/guarded-response.ts';
import type { HandlerHeaders } from '../../http/response/handler-headers.ts';
import { varyNames } from './vary.ts';

/** Fields that are never stored: the cache sets them itself on each response, and Set-Cookie is for one client. */
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

/** The cache directives of a response. */
export interface Directives {
  /** The directives that apply: a well-formed CDN-Cache-Control (RFC 9213), else Cache-Control. */
  readonly effective: CacheControl;
  /** Whether they come from CDN-Cache-Control, which overrides Expires as well. */
  readonly isTargeted: boolean;
  /** Cache-Control. */
  readonly general: CacheControl;
  /** A malformed CDN-Cache-Control: it allows nothing (RFC 9213, section 2.1), and its prohibitions apply. */
  readonly malformed: CacheControl | undefined;
}

/** Status and headers of a handler's response. */
export interface HandlerHead {
  readonly status: number;
  /** All headers of the response, also those that middleware above the cache has set. */
  readonly headers: OutgoingHttpHeaders;
  /** The headers that the handler has set, which are stored. */
  readonly own: HandlerHeaders;
  readonly directives: Directives;
  /** In milliseconds since the epoch. */
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
  // A copy, since the kit adds headers from now on.
  const headers = { ...res.getHeaders() };
  return { status: res.statusCode, headers, own, directives: directivesOf(headers), respondedAt: Date.now() };
}

/** The fields that say to caches whether, how long and for which requests a response may be stored. */
const CACHING_FIELDS = ['cache-control', 'cdn-cache-control', 'pragma', 'expires', 'no-vary-search'];

/**
 * The head with the changes that middleware above the cache made while it was sent, or the same head if they concern no
 * cache. A cookie does not: such middleware sets it on stored responses as well. `Vary: Accept-Encoding` does not either:
 * a compression above the cache gets stored responses unencoded, and encodes them for each client.
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

/** Whether a body has the length that its head declares; otherwise it was cut off, or is not the handler's. */
export function isWholeBody(head: HandlerHead | undefined, body: Buffer): boolean {
  const declared = head?.headers['content-length'];
  return declared === undefined || head?.status === 304 || Number(declared) === body.length;
}

export interface StorageRules {
  /** Undefined for all statuses. */
  readonly statuses: ReadonlySet<number> | undefined;
  readonly mayVaryOn: ReadonlySet<string> | undefined;
  /** Whether the app sets the lifetime: then the prohibitions of Cache-Control apply besides those of other fields. */
  readonly hasTtl: boolean;
  /** Whether the response can be validated before each use, as `no-cache` requires. */
  readonly isValidatable: boolean;
}

/** Why a response must not be stored, as the event `cache:skipped` reports it; undefined when it may be stored. */
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
    // A cache that knows must-understand ignores no-store beside it (RFC 9111, section 5.2.2.3).
    if (control.has('no-store') && (rules.hasTtl || !control.has('must-understand'))) return 'no-store';
    // With field names the directives concern only those fields, which are not stored.
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

/** Content-Range has a meaning only with these statuses (RFC 9110, section 14.4). */
function hasRange(status: number, headers: OutgoingHttpHeaders): boolean {
  return (status === 206 || status === 416) && headers['content-range'] !== undefined;
}

/** Whether a response must be validated before each use (RFC 9111, section 5.2.2.4). */
export function needsValidation(directives: Directives, hasTtl: boolean): boolean {
  return applicableControls(directives, hasTtl).some((control) => isWhole(control, 'no-cache'));
}

/**
 * Whether a response can be validated before each use. Only an ETag identifies the content: Last-Modified may be equal for the
 * content of another user.
 */
export function hasEtag(status: number, { set }: HandlerHeaders): boolean {
  return status === 200 && set.some(([name]) => name.toLowerCase() === 'etag');
}

/** Whether a response can be validated when it is stale. */
export function hasValidator(status: number, own: HandlerHeaders): boolean {
  const hasModified = () => own.set.some(([name]) => name.toLowerCase() === 'last-modified');
  return hasEtag(status, own) || (status === 200 && hasModified());
}

/** Whether a directive concerns the whole response: it names no fields. */
function isWhole(control: CacheControl, name: 'private' | 'no-cache'): boolean {
  return control.fields(name)?.length === 0;
}

/** The directives whose prohibitions apply. */
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
