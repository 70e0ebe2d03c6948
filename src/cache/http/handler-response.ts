import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import type { LateHeaders } from '../../http/response/before-end.ts';
import type { Header, OwnHeaders } from '../../http/response/own-headers.ts';
import type { NewEntry } from '../store/entry.ts';
import { type CachedResponse, cachedResponse, packInfo } from './cached-response.ts';
import { searchRule } from './no-vary-search.ts';
import type { CacheSettings } from './options.ts';
import { applicableControls, directivesOf, type HandlerHead, isForAll } from './storable.ts';
import { variantId, varyNames } from './vary.ts';

export function readHandlerHead(res: ServerResponse, own: OwnHeaders): HandlerHead {
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

/** The headers of a response that are stored: its own, without the fields that Cache-Control reserves for one client. */
export function storedHeaders(
  { headers, own, directives, respondedAt }: HandlerHead,
  hasTtl: boolean,
): Header[] {
  const reserved = new Set(
    applicableControls(directives, hasTtl).flatMap((control) =>
      ['private', 'no-cache'].flatMap((name) => control.fields(name) ?? []),
    ),
  );
  const stored = own.set.filter(([name]) => !reserved.has(name.toLowerCase()));
  if (headers.date === undefined) stored.push(['Date', new Date(respondedAt).toUTCString()]);
  return stored;
}

/** The stored form of a handler's response. */
export function responseToStore(
  head: HandlerHead,
  body: Buffer,
  requestHeaders: IncomingHttpHeaders,
  hasTtl: boolean,
): CachedResponse {
  const { status, headers, directives } = head;
  const names = varyNames(headers);
  return cachedResponse({
    status,
    headers: storedHeaders(head, hasTtl),
    removed: head.own.removed,
    vary: { names, id: names === '' ? '' : variantId(names, requestHeaders) },
    isForAll: isForAll(directives),
    body,
    rule: searchRule(headers),
  });
}

/** A response as its fill stores it. */
export function entryToStore(
  response: CachedResponse,
  use: Pick<NewEntry<CachedResponse>, 'lifetime' | 'names' | 'validation'>,
  { maxVariants, policy, maxEntries }: Pick<CacheSettings, 'maxVariants' | 'policy' | 'maxEntries'>,
): NewEntry<CachedResponse> {
  return {
    content: response,
    info: packInfo(response),
    body: response.body,
    ...use,
    variesOn: response.vary.names,
    maxVariants,
    policy: policy === undefined || maxEntries === undefined ? undefined : { name: policy, maxEntries },
  };
}
