import type { OutgoingHttpHeaders } from 'node:http';
import type { Header } from '../../http/response/stored-headers.ts';
import { type CachedResponse, cachedResponse, headersOf, storedHeaders } from './cached-response.ts';
import { searchRule } from './counted-url.ts';
import { directivesOf, type HandlerHead, hasEtag, isForAll, reasonNotToStore } from './storable.ts';
import { varyNames } from './vary.ts';

/** The fields of a stored response that a 304 must not change (RFC 9111, section 3.2). */
export const BODY_FIELDS: ReadonlySet<string> = new Set([
  'content-encoding',
  'content-length',
  'content-range',
  'content-type',
]);

/** A stored response that the handler has validated with a 304. */
export interface ValidatedResponse {
  /** The head of the updated response, which decides whether it may be stored again. */
  readonly head: HandlerHead;
  readonly response: CachedResponse;
  /** Whether the 304 validates the stored response and allows it to be stored. */
  readonly isStorable: boolean;
}

/**
 * The stored response with the header fields of a 304 (RFC 9111, section 4.3.4). If the validator in the 304 is not the
 * stored one, the stored response is unchanged and not storable.
 */
export function validatedResponse(
  update: HandlerHead,
  stored: CachedResponse,
  hasTtl: boolean,
): ValidatedResponse {
  if (!validates(update.headers, stored)) return { head: update, response: stored, isStorable: false };
  const merged = updatedHeaders(headersOf(stored), storedHeaders(update, hasTtl));
  // Fields that earlier middleware has set affect the decision, and are not stored.
  const headers: OutgoingHttpHeaders = Object.fromEntries([
    ...merged.map(([name, value]) => [name.toLowerCase(), typeof value === 'string' ? value : [...value]]),
    ...Object.entries(update.headers).filter(([name]) => !BODY_FIELDS.has(name)),
  ]);
  const directives = directivesOf(headers);
  const { status } = stored;
  const { respondedAt } = update;
  const removed = removedAfter(stored, update, headers);
  const head = { status, headers, own: { set: merged, removed }, directives, respondedAt };
  const isValidatable = hasEtag(status, head.own);
  const rules = { statuses: new Set([status]), mayVaryOn: undefined, hasTtl, isValidatable };
  const isForbidden = reasonNotToStore(head, rules) !== undefined;
  // With another Vary than the stored one, the requests that would select the stored response are unknown.
  const isStorable = !isForbidden && varyNames(headers) === stored.vary.names;
  // It is unknown whether the handler read Authorization to make the stored body, so a 304 never permits more requests
  // to use it.
  const isStillForAll = stored.isForAll && isForAll(directives);
  const fields = { headers: merged, removed, isForAll: isStillForAll, rule: searchRule(headers) };
  const response = cachedResponse({ ...stored, ...fields });
  return { head, response, isStorable };
}

/** Whether a 304 matches the stored response. A 304 without validators does: it answers the request's condition. */
function validates(
  { etag, 'last-modified': modified }: OutgoingHttpHeaders,
  stored: CachedResponse,
): boolean {
  if (etag !== undefined) return String(etag) === stored.etag;
  return modified === undefined || String(modified) === stored.lastModified;
}

function updatedHeaders(stored: readonly Header[], update: readonly Header[]): Header[] {
  const updated = update.filter(([name]) => !BODY_FIELDS.has(name.toLowerCase()));
  const replaced = new Set(updated.map(([name]) => name.toLowerCase()));
  return [...stored.filter(([name]) => !replaced.has(name.toLowerCase())), ...updated];
}

/** The headers removed by the handler, now or earlier. A 304 omits body fields, so their absence removes nothing. */
function removedAfter(
  stored: CachedResponse,
  { own }: HandlerHead,
  headers: OutgoingHttpHeaders,
): readonly string[] {
  const names = own.removed.filter((name) => !BODY_FIELDS.has(name));
  return [...new Set([...stored.removed, ...names])].filter((name) => headers[name] === undefined);
}
