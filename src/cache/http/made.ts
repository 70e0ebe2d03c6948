import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { LateHeaders } from '../../http/response/before-end.ts';
import type { OwnHeaders } from '../../http/response/own-headers.ts';
import type { NewEntry } from '../store/fill.ts';
import { type CachedResponse, cachedResponse, headersOf, packInfo } from './cached-response.ts';
import type { CacheSettings } from './options.ts';
import {
  directivesOf,
  type HandlerHead,
  hasEtag,
  isForAll,
  OF_THE_STORED_BODY,
  reasonNotToStore,
  storedHeaders,
  updatedHeaders,
} from './storable.ts';
import { variantId, varyNames } from './vary.ts';

/** Status and headers as a handler made them. */
export interface MadeHead extends HandlerHead {
  readonly status: number;
}

export function madeHead(res: ServerResponse, own: OwnHeaders): MadeHead {
  // A copy: what is added from now on is not the handler's.
  const headers = { ...res.getHeaders() };
  const directives = directivesOf(headers);
  return { status: res.statusCode, headers, own, directives, madeAt: Date.now() };
}

/** By what a response says to caches whether, how long and for whom it may be stored. */
const TO_CACHES = ['cache-control', 'cdn-cache-control', 'pragma', 'expires'];

/**
 * The head with what middleware above the cache changed while it left; the same one where that concerns no cache. A cookie
 * does not: such middleware sets it on each response, on stored ones as well. Neither does `Vary: Accept-Encoding`: a
 * compression above gets stored responses as they are, and encodes them for each client.
 */
export function withLate(head: MadeHead, late: LateHeaders): MadeHead {
  const changes = new Map([...late].filter(([name]) => TO_CACHES.includes(name)));
  const before = varyNames(head.headers);
  const names = late.has('vary') ? varyNames({ vary: String(late.get('vary') ?? '') }).split(',') : [];
  const added = names.filter((name) => name !== 'accept-encoding' && !before.split(',').includes(name));
  if (added.length > 0 && added[0] !== '') changes.set('vary', [before, ...added].join(','));
  if (changes.size === 0) return head;
  const headers = { ...head.headers, ...Object.fromEntries(changes) };
  return { ...head, headers, directives: directivesOf(headers) };
}

/** Whether a body is as long as its head says: else it was cut off, or is not the handler's. */
export function isAllOf(head: MadeHead | undefined, body: Buffer): boolean {
  const declared = head?.headers['content-length'];
  return declared === undefined || head?.status === 304 || Number(declared) === body.length;
}

/** What is stored of a response. */
export function madeResponse(
  head: MadeHead,
  body: Buffer,
  asked: IncomingHttpHeaders,
  hasTtl: boolean,
): CachedResponse {
  const { status, headers, directives } = head;
  const names = varyNames(headers);
  return cachedResponse({
    status,
    headers: storedHeaders(head, hasTtl),
    removed: head.own.removed,
    vary: { names, id: names === '' ? '' : variantId(names, asked) },
    isForAll: isForAll(directives),
    body,
  });
}

/** A stored response that the handler has validated by a 304. */
export interface ValidatedResponse {
  /** Its head, by which it is judged whether it may be stored again. */
  readonly head: MadeHead;
  readonly response: CachedResponse;
  /** Whether the 304 is of this response and forbids nothing. */
  readonly isStorable: boolean;
}

/**
 * The stored response with the header fields of the 304 that validates it (RFC 9111, section 4.3.4). A 304 that names another
 * validator than the stored one updates nothing.
 */
export function validatedResponse(
  update: MadeHead,
  stored: CachedResponse,
  hasTtl: boolean,
): ValidatedResponse {
  if (!isOf(update.headers, stored)) return { head: update, response: stored, isStorable: false };
  const merged = updatedHeaders(headersOf(stored), storedHeaders(update, hasTtl));
  // What stands above the cache counts as well, and is not stored.
  const texts: OutgoingHttpHeaders = Object.fromEntries([
    ...merged.map(([name, value]) => [name.toLowerCase(), typeof value === 'string' ? value : [...value]]),
    ...Object.entries(update.headers).filter(([name]) => !OF_THE_STORED_BODY.has(name)),
  ]);
  const all = directivesOf(texts);
  const { status } = stored;
  const { madeAt } = update;
  const removed = removedAfter(stored, update, texts);
  const head = { status, headers: texts, own: { set: merged, removed }, directives: all, madeAt };
  const isValidatable = hasEtag(status, head.own);
  const rules = { statuses: new Set([status]), mayVaryOn: undefined, hasTtl, isValidatable };
  const isForbidden = reasonNotToStore(status, texts, all, rules) !== undefined;
  // With another Vary it is not known which requests it would be for.
  const isStorable = !isForbidden && varyNames(texts) === stored.vary.names;
  // Which identities the handler read when it made the body is not known here, so a 304 widens no use.
  const response = cachedResponse({
    ...stored,
    headers: merged,
    removed,
    isForAll: stored.isForAll && isForAll(all),
  });
  return { head, response, isStorable };
}

/** A 304 has no fields of the body, also where middleware above had set them. */
function removedAfter(
  stored: CachedResponse,
  { own }: MadeHead,
  headers: OutgoingHttpHeaders,
): readonly string[] {
  const names = own.removed.filter((name) => !OF_THE_STORED_BODY.has(name));
  return [...new Set([...stored.removed, ...names])].filter((name) => headers[name] === undefined);
}

/** A response as a fill stores it. */
export function responseToFill(
  response: CachedResponse,
  made: Pick<NewEntry<CachedResponse>, 'lifetime' | 'names' | 'validation'>,
  { maxVariants, policy, maxEntries }: Pick<CacheSettings, 'maxVariants' | 'policy' | 'maxEntries'>,
): NewEntry<CachedResponse> {
  return {
    content: response,
    info: packInfo(response),
    body: response.body,
    ...made,
    variesOn: response.vary.names,
    maxVariants,
    policy: policy === undefined || maxEntries === undefined ? undefined : { name: policy, maxEntries },
  };
}

/** By its validators, of which an ETag says most. A 304 without any is the answer to what was asked. */
function isOf({ etag, 'last-modified': modified }: OutgoingHttpHeaders, stored: CachedResponse): boolean {
  if (etag !== undefined) return String(etag) === stored.etag;
  return modified === undefined || String(modified) === stored.lastModified;
}
