import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { spelledNames } from '../http/response-head.ts';
import { type CachedResponse, cachedResponse, headersOf, packInfo } from './cached-response.ts';
import type { Lifetime } from './entry.ts';
import type { Made } from './fill.ts';
import type { CacheSettings } from './options.ts';
import {
  directivesOf,
  type HandlerHead,
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

export function madeHead(res: ServerResponse): MadeHead {
  // A copy: what is added from now on is not the handler's.
  const headers = { ...res.getHeaders() };
  const directives = directivesOf(headers);
  return { status: res.statusCode, headers, spelled: spelledNames(res), directives, madeAt: Date.now() };
}

/** What is stored of a response; `outer` has the headers that were there above the cache. */
export function madeResponse(
  head: MadeHead,
  body: Buffer,
  outer: ReadonlyMap<string, string>,
  asked: IncomingHttpHeaders,
  hasTtl: boolean,
): CachedResponse {
  const { status, headers, directives } = head;
  const names = varyNames(headers);
  return cachedResponse({
    status,
    headers: storedHeaders(head, outer, hasTtl),
    vary: { names, id: names === '' ? '' : variantId(names, asked) },
    isForAll: isForAll(directives),
    body,
  });
}

/**
 * A stored response that a 304 confirms and brings up to date, with its head as it is now; undefined when the 304 speaks
 * of another, or says what forbids to keep it (RFC 9111, section 4.3.4).
 */
export function confirmedResponse(
  update: MadeHead,
  stored: CachedResponse,
  outer: ReadonlyMap<string, string>,
  hasTtl: boolean,
): { readonly head: MadeHead; readonly response: CachedResponse } | undefined {
  if (!isOf(update.headers, stored)) return undefined;
  const merged = updatedHeaders(headersOf(stored), storedHeaders(update, outer, hasTtl));
  // What stands above the cache counts as well, and is not stored.
  const texts: OutgoingHttpHeaders = Object.fromEntries([
    ...merged.map(([name, value]) => [name.toLowerCase(), typeof value === 'string' ? value : [...value]]),
    ...Object.entries(update.headers).filter(([name]) => !OF_THE_STORED_BODY.has(name)),
  ]);
  const all = directivesOf(texts);
  const { status } = stored;
  const { madeAt } = update;
  const rules = { statuses: new Set([status]), mayVaryOn: undefined, hasTtl };
  if (reasonNotToStore(status, texts, all, rules) !== undefined) return undefined;
  // It would be another variant, of which nobody knows for which requests.
  if (varyNames(texts) !== stored.vary.names) return undefined;
  const head = { status, headers: texts, spelled: merged.map(([name]) => name), directives: all, madeAt };
  return { head, response: cachedResponse({ ...stored, headers: merged, isForAll: isForAll(all) }) };
}

/** A response as a fill stores it. */
export function responseToFill(
  response: CachedResponse,
  lifetime: Lifetime,
  tags: readonly string[],
  { maxVariants, policy, maxEntries }: Pick<CacheSettings, 'maxVariants' | 'policy' | 'maxEntries'>,
): Made<CachedResponse> {
  return {
    content: response,
    info: packInfo(response),
    body: response.body,
    lifetime,
    tags,
    variesOn: response.vary.names,
    maxVariants,
    bound: policy === undefined || maxEntries === undefined ? undefined : { policy, maxEntries },
  };
}

/** By its validators, of which an ETag says most. A 304 without any is the answer to what was asked. */
function isOf({ etag, 'last-modified': modified }: OutgoingHttpHeaders, stored: CachedResponse): boolean {
  if (etag !== undefined) return String(etag) === stored.etag;
  return modified === undefined || String(modified) === stored.lastModified;
}
