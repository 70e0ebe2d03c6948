import type { OutgoingHttpHeaders } from 'node:http';
import { type CacheControl, parseCacheControl } from '../../http/message/cache-control.ts';
import { parseTargeted } from '../../http/message/targeted-cache-control.ts';
import type { HandlerHeaders } from '../../http/response/handler-headers.ts';
import type { Header } from '../../http/response/stored-headers.ts';
import { varyNames } from './vary.ts';

/** What the one answering cache says of itself. */
export const OF_THIS_CACHE: ReadonlySet<string> = new Set([
  'age',
  'cache-status',
  'content-length',
  'set-cookie',
]);

/** The statuses whose meaning this cache knows, which `must-understand` asks for (RFC 9111, section 5.2.2.3). */
const UNDERSTOOD = new Set([
  ...[200, 203, 204, 300, 301, 302, 303, 307, 308],
  ...[400, 403, 404, 405, 410, 414, 500, 501, 502, 503, 504],
]);

/** What the response says to caches. */
export interface Directives {
  /** What counts: CDN-Cache-Control where it is there and well-formed (RFC 9213), else Cache-Control. */
  readonly effective: CacheControl;
  /** Whether that is the targeted field, beside which Expires does not count either. */
  readonly isTargeted: boolean;
  /** Cache-Control, whatever else there is. */
  readonly general: CacheControl;
  /** A CDN-Cache-Control that does not parse: it allows nothing (RFC 9213, section 2.1), and what it forbids is forbidden. */
  readonly malformed: CacheControl | undefined;
}

export function directivesOf(headers: OutgoingHttpHeaders): Directives {
  const general = parseCacheControl(headers['cache-control']);
  const field = textsOf(headers['cdn-cache-control']);
  const targeted = parseTargeted(field);
  const malformed = field === undefined || targeted !== undefined ? undefined : parseCacheControl(field);
  return { effective: targeted ?? general, isTargeted: targeted !== undefined, general, malformed };
}

export interface StorageRules {
  /** Undefined: any. */
  readonly statuses: ReadonlySet<number> | undefined;
  readonly mayVaryOn: ReadonlySet<string> | undefined;
  /** Whether the lifetime is the app's own: then what Cache-Control forbids is forbidden, whatever other field speaks. */
  readonly hasTtl: boolean;
  /** Whether it can be validated before each use, which `no-cache` asks for. */
  readonly isValidatable: boolean;
}

/** Why a response is not stored, in the words of the event `cache:skipped`; undefined when it may be. */
export function reasonNotToStore(
  status: number,
  headers: OutgoingHttpHeaders,
  directives: Directives,
  rules: StorageRules,
): string | undefined {
  if (!mayStoreStatus(status, rules)) return 'status';
  if (headers['set-cookie'] !== undefined) return 'set-cookie';
  if (hasRange(status, headers)) return 'partial';
  if (headers.trailer !== undefined) return 'trailer';
  if (/^text\/event-stream/i.test(String(headers['content-type'] ?? ''))) return 'event-stream';
  for (const control of controlsThatCount(directives, rules.hasTtl)) {
    // Beside must-understand it is for caches that do not know that (RFC 9111, section 5.2.2.3).
    if (control.has('no-store') && (rules.hasTtl || !control.has('must-understand'))) return 'no-store';
    // With field names only those fields are concerned, and taken off.
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

/** Content-Range has a meaning with these statuses alone (RFC 9110, section 14.4). */
function hasRange(status: number, headers: OutgoingHttpHeaders): boolean {
  return (status === 206 || status === 416) && headers['content-range'] !== undefined;
}

/** Whether a response may be used only once the handler has validated it for the request (RFC 9111, section 5.2.2.4). */
export function needsValidation(directives: Directives, hasTtl: boolean): boolean {
  return controlsThatCount(directives, hasTtl).some((control) => isWhole(control, 'no-cache'));
}

/**
 * Whether a response can be validated before each use. Its ETag says which content a client has; a Last-Modified alone
 * may be that of the content of another user, which the cache cannot see.
 */
export function hasEtag(status: number, { set }: HandlerHeaders): boolean {
  return status === 200 && set.some(([name]) => name.toLowerCase() === 'etag');
}

/** Whether a response can be validated once it is stale. */
export function hasValidator(status: number, own: HandlerHeaders): boolean {
  const hasModified = () => own.set.some(([name]) => name.toLowerCase() === 'last-modified');
  return hasEtag(status, own) || (status === 200 && hasModified());
}

/** Whether a directive concerns the whole response, and not only the fields that it names. */
function isWhole(control: CacheControl, name: 'private' | 'no-cache'): boolean {
  return control.fields(name)?.length === 0;
}

/** By what a response may forbid something. */
function controlsThatCount(directives: Directives, hasTtl: boolean): readonly CacheControl[] {
  const { effective, general, malformed } = directives;
  const controls = hasTtl ? [effective, general] : [effective];
  return malformed === undefined ? controls : [...controls, malformed];
}

function mayStoreStatus(status: number, { statuses, hasTtl }: StorageRules): boolean {
  if (statuses !== undefined) return statuses.has(status);
  if (hasTtl) return status === 200;
  return status >= 200 && status <= 599 && status !== 206 && status !== 304;
}

/** Whether a shared cache may keep what was made for a request with Authorization, and send it to others (RFC 9111, section 3.5). */
export function isForAll({ effective }: Directives): boolean {
  return effective.has('public') || effective.has('must-revalidate') || effective.has('s-maxage');
}

/** The headers of a response, and what they say to caches. */
export interface HandlerHead {
  /** All headers of the response: what a middleware above says to caches counts as well. */
  readonly headers: OutgoingHttpHeaders;
  /** The part of them that is stored. */
  readonly own: HandlerHeaders;
  readonly directives: Directives;
  /** When it was, in ms since the epoch. */
  readonly madeAt: number;
}

/** The headers of a response that may be stored: its own, without what is for one client or of this cache. */
export function storedHeaders({ headers, own, directives, madeAt }: HandlerHead, hasTtl: boolean): Header[] {
  const concealed = new Set(
    controlsThatCount(directives, hasTtl).flatMap((control) =>
      ['private', 'no-cache'].flatMap((name) => control.fields(name) ?? []),
    ),
  );
  const stored = own.set.filter(([name]) => !concealed.has(name.toLowerCase()));
  if (headers.date === undefined) stored.push(['Date', new Date(madeAt).toUTCString()]);
  return stored;
}

/** What a 304 may not change of the response that it validates (RFC 9111, section 3.2). */
export const OF_THE_STORED_BODY: ReadonlySet<string> = new Set([
  'content-encoding',
  'content-length',
  'content-range',
  'content-type',
]);

/** A stored response's headers, brought up to date by a 304 (RFC 9111, sections 3.2 and 4.3.4). */
export function updatedHeaders(stored: readonly Header[], update: readonly Header[]): Header[] {
  const fresh = update.filter(([name]) => !OF_THE_STORED_BODY.has(name.toLowerCase()));
  const replaced = new Set(fresh.map(([name]) => name.toLowerCase()));
  return [...stored.filter(([name]) => !replaced.has(name.toLowerCase())), ...fresh];
}

function textsOf(value: OutgoingHttpHeaders[string]): string | readonly string[] | undefined {
  return typeof value === 'number' ? String(value) : value;
}
