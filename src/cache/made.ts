import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import { spelledNames } from '../http/response-head.ts';
import { type CachedResponse, cachedResponse } from './cached-response.ts';
import {
  directivesOf,
  type HandlerHead,
  isForAll,
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
  const { headers, madeAt } = update;
  if (headers.etag !== undefined && String(headers.etag) !== stored.etag) return undefined;
  const merged = updatedHeaders(stored.headers, storedHeaders(update, outer, hasTtl));
  const texts = Object.fromEntries(
    merged.map(([name, value]) => [name.toLowerCase(), typeof value === 'string' ? value : [...value]]),
  );
  const all = directivesOf(texts);
  const { status } = stored;
  const rules = { statuses: new Set([status]), mayVaryOn: undefined, hasTtl: true };
  if (reasonNotToStore(status, texts, all, rules) !== undefined) return undefined;
  const head = { status, headers: texts, spelled: merged.map(([name]) => name), directives: all, madeAt };
  return { head, response: cachedResponse({ ...stored, headers: merged, isForAll: isForAll(all) }) };
}
