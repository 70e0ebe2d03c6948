import type { IncomingHttpHeaders } from 'node:http';
import type { ByteRange } from '../../http/message/byte-range.ts';
import { validatorsOf } from '../../http/message/conditional-request.ts';
import { areHeaders, areNames, flatHeaders, type Header } from '../../http/response/stored-headers.ts';
import { isText, type NewEntry } from '../store/entry.ts';
import type { ContentMemory } from '../store/local-state.ts';
import { type SearchRule, searchRule } from './counted-url.ts';
import { applicableControls, type HandlerHead, isForAll } from './storable.ts';
import { variantId, varyNames } from './vary.ts';

/** The part of a representation that a stored response contains. */
export interface StoredPart extends ByteRange {
  /** The length of the whole representation in bytes. */
  readonly length: number;
  /** The invalidation names of the part. A response into which the part is combined gets them too. */
  readonly tags: readonly string[];
}

/** A response as it is stored: its status, headers and body, and the facts that select it. */
export interface CachedResponse {
  readonly status: number;
  /** Header names, in their original spelling, alternate with their values: the form that `writeHead` takes fastest. */
  readonly flat: readonly (string | string[])[];
  /** Lower-case names of headers that earlier middleware set and the handler removed. A hit removes them too. */
  readonly removed: readonly string[];
  readonly etag: string | undefined;
  readonly lastModified: string | undefined;
  readonly date: string | undefined;
  /** The names in Vary and the id of the variant. Both are empty for a response that does not vary. */
  readonly vary: { readonly names: string; readonly id: string };
  /** Whether the response may answer requests with Authorization (RFC 9111, section 3.5). */
  readonly isForAll: boolean;
  readonly body: Buffer;
  /** The bytes of a short body as Latin-1 text, once a local copy was sent: see `bodyText`. */
  text?: string | undefined;
  /** The part that the body contains; undefined for a complete response. */
  readonly part: StoredPart | undefined;
  /** The No-Vary-Search rule under whose key the response is to be stored; undefined for a response that was read. */
  readonly rule?: SearchRule | undefined;
}

type ResponseFields = Pick<CachedResponse, 'status' | 'vary' | 'isForAll' | 'body'> & {
  readonly headers: readonly Header[];
  readonly removed?: readonly string[];
  readonly part?: StoredPart | undefined;
  readonly rule?: SearchRule | undefined;
};

export function cachedResponse({
  status,
  headers,
  removed = [],
  vary,
  isForAll,
  body,
  part,
  rule,
}: ResponseFields): CachedResponse {
  const { etag, lastModified, date } = validatorsOf(headers);
  const flat = flatHeaders(headers);
  return { status, flat, removed, etag, lastModified, date, vary, isForAll, body, part, rule };
}

/** The longest body that is also kept as text. For longer ones, a copy costs more than a second buffer in one write. */
const MAX_TEXT_BYTES = 16 * 1024;

/** The bytes of a short body as Latin-1 text, which Node sends in one piece with the head; undefined for a long body. */
export function bodyText(response: CachedResponse): string | undefined {
  if (response.body.length > MAX_TEXT_BYTES) return undefined;
  response.text ??= response.body.toString('latin1');
  return response.text;
}

/** The headers of a stored response, in their original order. */
export function headersOf({
  flat,
}: Pick<CachedResponse, 'flat'>): [name: string, value: string | string[]][] {
  return flat.flatMap((name, at) => (at % 2 === 0 ? [[String(name), flat[at + 1] ?? '']] : []));
}

/** The Content-Encoding of a stored response. */
export function codingOf({ flat }: CachedResponse): string | string[] | undefined {
  const at = flat.findIndex((name, index) => index % 2 === 0 && /^content-encoding$/i.test(String(name)));
  return at === -1 ? undefined : flat[at + 1];
}

/** The headers that the handler set, except those reserved for one client by Cache-Control. Adds a missing Date. */
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

/** The lifetime, the invalidation names and the validated entry with which a response is stored. */
export type StorageUse = Pick<NewEntry<CachedResponse>, 'lifetime' | 'names' | 'validation'>;

/** The cache entry for a response, which a fill stores. */
export function entryToStore(
  response: CachedResponse,
  use: StorageUse,
  { maxVariants, policy }: Pick<NewEntry<CachedResponse>, 'maxVariants' | 'policy'>,
): NewEntry<CachedResponse> {
  const { body, vary } = response;
  const info = packInfo(response);
  return { content: response, info, body, ...use, variesOn: vary.names, maxVariants, policy };
}

export function packInfo(response: CachedResponse): unknown {
  const { status, removed, vary, isForAll, part } = response;
  const info = [status, headersOf(response), vary.names, vary.id, isForAll ? 1 : 0];
  if (part !== undefined) return [...info, removed, [part.start, part.end, part.length, part.tags]];
  return removed.length === 0 ? info : [...info, removed];
}

/**
 * The response for a local copy. Its body is copied, since bytes that were read are a slice of a larger buffer that
 * would stay in memory. Its rule is dropped, since the key contains the rule.
 */
function detachedResponse(response: CachedResponse): CachedResponse {
  const { body, rule } = response;
  if (body.buffer.byteLength === body.length)
    return rule === undefined ? response : { ...response, rule: undefined };
  const own = Buffer.allocUnsafeSlow(body.length);
  body.copy(own);
  return { ...response, body: own, rule: undefined };
}

export const RESPONSE_MEMORY: ContentMemory<CachedResponse> = {
  detach: detachedResponse,
  addedBytes: ({ body }) => (body.length > MAX_TEXT_BYTES ? 0 : body.length),
};

/** Reads a packed response; undefined for one that is corrupt and cannot be sent. */
export function unpackResponse(info: unknown, body: Buffer): CachedResponse | undefined {
  if (!Array.isArray(info)) return undefined;
  const [status, headers, names, id, isForAll, removed = [], packedPart]: unknown[] = info;
  if (!isStatus(status) || !isText(names) || !isText(id) || (isForAll !== 0 && isForAll !== 1))
    return undefined;
  if (!areHeaders(headers) || !areNames(removed)) return undefined;
  const part = packedPart === undefined ? undefined : unpackPart(packedPart);
  if (packedPart !== undefined && (part === undefined || body.length !== part.end - part.start + 1))
    return undefined;
  const vary = { names, id };
  return cachedResponse({ status, headers, removed, vary, isForAll: isForAll === 1, body, part });
}

function unpackPart(packed: unknown): StoredPart | undefined {
  if (!Array.isArray(packed)) return undefined;
  const [start, end, length, tags]: unknown[] = packed;
  if (!isOffset(start) || !isOffset(end) || !isOffset(length) || !areNames(tags)) return undefined;
  return start <= end && end < length ? { start, end, length, tags } : undefined;
}

function isOffset(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isStatus(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 200 && value <= 599;
}
