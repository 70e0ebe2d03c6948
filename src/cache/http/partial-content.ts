import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { LRUCache } from 'lru-cache';
import { internalPurposeOf } from '../../http/internal-request.ts';
import { contentRangeOf } from '../../http/message/byte-range.ts';
import { haveSameStrongValidator } from '../../http/message/conditional-request.ts';
import { type Entry, type Lifetime, usabilityOf, type Validation } from '../store/entry.ts';

import type { EntryKey } from '../store/entry-key.ts';
import type { Fill } from '../store/fill.ts';
import type { LookupSettings } from '../store/lookup.ts';
import type { Acceptance } from './acceptance.ts';
import {
  type CachedResponse,
  cachedResponse,
  codingOf,
  headersOf,
  responseToStore,
  type StorageUse,
  type StoredPart,
} from './cached-response.ts';
import { type Conditions, LEFT_CONDITIONS, removeConditions } from './conditions.ts';
import type { CacheDependencies } from './options.ts';
import { type RangeRequest, rangeFor, wholeOf } from './range-response.ts';
import type { ResponseKey } from './response-key.ts';
import type { HandlerHead } from './storable.ts';

/*
 * A 206 is stored under a separate key, beside the complete response: a request without Range never reads the 206, and
 * neither does a process of an older version.
 */

/** A request whose Range may ask for a part. */
interface PartRequest {
  readonly req: IncomingMessage;
  /** The key of the whole response. */
  readonly key: ResponseKey;
}

/** How many keys of whole responses are remembered as unstorable. */
const MAX_UNSTORABLE = 1_000;

/** Answers requests for parts from stored parts, and decides where a handler's 206 is stored. One per `kit.cache`. */
export class PartialContent {
  readonly #deps: CacheDependencies;
  readonly #lookup: LookupSettings<CachedResponse>;
  readonly #acceptance: Acceptance;
  /**
   * The Redis keys of whole responses that could not be stored. A request for a part of such a response reaches the
   * handler with its Range, so that the handler itself sends the part. Storing the whole response removes its key here.
   */
  readonly #unstorable = new LRUCache<string, true>({ max: MAX_UNSTORABLE });

  constructor(deps: CacheDependencies, lookup: LookupSettings<CachedResponse>, acceptance: Acceptance) {
    this.#deps = deps;
    this.#lookup = lookup;
    this.#acceptance = acceptance;
  }

  /** Whether the handler itself must send the part, since the whole response is known not to be storable. */
  isLeftToHandler({ req, key }: PartRequest): boolean {
    return req.headers.range !== undefined && this.#unstorable.has(key.redisKeys.entry);
  }

  /** Removes the conditions, unless the handler itself must send the part. `validated` is the response to validate. */
  conditionsOf(request: PartRequest, validated: Validation<CachedResponse> | undefined): Conditions {
    return this.isLeftToHandler(request)
      ? LEFT_CONDITIONS
      : removeConditions(request.req, validated?.entry.content);
  }

  wholeSkipped({ redisKeys }: ResponseKey): void {
    this.#unstorable.set(redisKeys.entry, true);
  }

  wholeStored({ redisKeys }: ResponseKey): void {
    this.#unstorable.delete(redisKeys.entry);
  }

  /** The local copy of the stored part, if it is fresh and may answer the request. Sends no Redis command. */
  localCopy(request: PartRequest): Entry<CachedResponse> | undefined {
    const key = this.#keyOfPart(request);
    const entry = key && this.#deps.caches.responses.localCopy(this.#lookup, key.localKey());
    return key && entry && this.#accepts(request.req, key, entry) ? entry : undefined;
  }

  /** The stored part, if it is fresh and may answer the request. */
  async find(request: PartRequest): Promise<Entry<CachedResponse> | undefined> {
    const key = this.#keyOfPart(request);
    if (key === undefined) return undefined;
    const { req } = request;
    const accepts = (entry: Entry<CachedResponse>) => this.#accepts(req, key, entry);
    const lookup = { key, deadline: this.#deps.deadlines.of(req), accepts };
    return this.#deps.caches.responses.peek(lookup, this.#lookup);
  }

  /**
   * The target for a 206 of the handler, which is combined with the stored part; undefined for a request without Range.
   * `fill` is the fill of the whole response. To be called before the conditions are removed from the request.
   */
  target(
    request: PartRequest,
    fill: Fill<CachedResponse>,
    stored: Entry<CachedResponse> | undefined,
  ): PartTarget | undefined {
    const key = this.#keyOfPart(request);
    const areConditionsLeft = this.isLeftToHandler(request);
    const hasIfRange = request.req.headers['if-range'] !== undefined;
    return key && new PartTarget({ key, stored: stored?.content, fill, areConditionsLeft, hasIfRange });
  }

  #keyOfPart({ req, key }: PartRequest): ResponseKey | undefined {
    if (req.headers.range === undefined || (req.method !== 'GET' && req.method !== 'QUERY')) return undefined;
    return internalPurposeOf(req) === undefined ? key.ofPart() : undefined;
  }

  #accepts(req: IncomingMessage, key: ResponseKey, entry: Entry<CachedResponse>): boolean {
    const isFresh = usabilityOf(entry, this.#deps.caches.responses.now()) === 'fresh';
    return isFresh && key.selects(entry.content) && this.#acceptance.accepts(req, entry);
  }
}

/** Whether a stored part answers a request: the part contains the only range that the request asks for. */
export function isPartFor(req: RangeRequest, content: CachedResponse): boolean {
  const { part } = content;
  const range = part && rangeFor(req, wholeOf(content));
  if (part === undefined || range === undefined || range === 'unsatisfiable') return false;
  return part.start <= range.start && range.end <= part.end;
}

interface PartTargetOptions {
  /** The key under which the part is stored. */
  readonly key: EntryKey<CachedResponse>;
  /** The fresh stored part with which a 206 is combined; undefined for none. */
  readonly stored: CachedResponse | undefined;
  /** The fill of the whole response. Other requests may wait for it. */
  readonly fill: Fill<CachedResponse>;
  /** Whether the handler sees the client's conditions and Range. */
  readonly areConditionsLeft: boolean;
  /** Whether the request has If-Range: a 206 may then omit headers that the client has (RFC 9110, section 15.3.7). */
  readonly hasIfRange: boolean;
}

/** Judges a handler's 206, and combines it with the stored part if both belong together. */
export class PartTarget {
  readonly #options: PartTargetOptions;
  /** Whether the handler has responded with a 206 that has a single range. Set by `judgedHead()`. */
  hasPart = false;

  constructor(options: PartTargetOptions) {
    this.#options = options;
  }

  /**
   * The head that decides whether a response is stored. A 206 is judged as an incomplete 200 (RFC 9111, section 3.3),
   * and requests for the whole response stop waiting for its fill.
   */
  judgedHead(head: HandlerHead): HandlerHead {
    const { stored, fill, areConditionsLeft, hasIfRange } = this.#options;
    if (head.status !== 206 || rangeIn(head) === undefined) return head;
    if (hasIfRange && stored === undefined) return head;
    if (!this.hasPart) {
      this.hasPart = true;
      if (areConditionsLeft) fill.release();
      else fill.endAsHitForMiss();
    }
    return headOfWhole(head);
  }

  /**
   * Combines a new part with the stored one if both belong to the same representation. Without a missing byte the
   * result is a whole 200. Undefined if the part cannot be stored.
   */
  combine(
    response: CachedResponse,
    { lifetime, names }: StorageUse,
    maxBody: number,
  ):
    | { readonly response: CachedResponse; readonly use: StorageUse; readonly fill: Fill<CachedResponse> }
    | undefined {
    const { stored, key, fill, hasIfRange } = this.#options;
    if (response.part === undefined) return undefined;
    const own = { ...response, part: { ...response.part, tags: names } };
    const combined = stored && combinedPart(stored, own, maxBody);
    if (combined === undefined && hasIfRange) return undefined;
    const result = combined ?? own;
    const { start, end, length, tags } = combined?.part ?? own.part;
    if (start === 0 && end === length - 1) {
      const whole = { ...result, status: 200, part: undefined };
      return { response: whole, use: { lifetime, names: tags }, fill: fill.unawaited() };
    }
    const use = { lifetime: partLifetime(lifetime), names: tags };
    return { response: result, use, fill: fill.unawaited(key) };
  }
}

/** The stored form of a 206; undefined if its body does not have the length of its Content-Range. */
export function partToStore(
  head: HandlerHead,
  body: Buffer,
  requestHeaders: IncomingHttpHeaders,
  hasTtl: boolean,
): CachedResponse | undefined {
  const range = rangeIn(head);
  if (range === undefined || body.length !== range.end - range.start + 1) return undefined;
  const response = responseToStore(headOfWhole(head), body, requestHeaders, hasTtl);
  return { ...response, status: 206, part: { ...range, tags: [] } };
}

function rangeIn({ headers }: HandlerHead): ReturnType<typeof contentRangeOf> {
  return contentRangeOf(String(headers['content-range'] ?? ''));
}

function headOfWhole(head: HandlerHead): HandlerHead {
  const { 'content-range': _, ...headers } = head.headers;
  const set = head.own.set.filter(([name]) => name.toLowerCase() !== 'content-range');
  return { ...head, status: 200, headers, own: { ...head.own, set } };
}

/** The lifetime of a part, without stale windows: a part is served only while it is fresh. */
function partLifetime(lifetime: Lifetime): Lifetime {
  return { ...lifetime, staleWhileRevalidateMs: 0, staleIfErrorMs: 0, validatableMs: 0 };
}

/** Combines two parts (RFC 9111, section 3.4); undefined if this is forbidden, leaves a gap, or exceeds `maxBody`. */
function combinedPart(
  stored: CachedResponse,
  update: CachedResponse,
  maxBody: number,
): CachedResponse | undefined {
  const [one, other] = [stored.part, update.part];
  if (one === undefined || other === undefined || !areOfOneRepresentation(stored, update)) return undefined;
  if (one.length !== other.length || one.start > other.end + 1 || other.start > one.end + 1) return undefined;
  const [start, end] = [Math.min(one.start, other.start), Math.max(one.end, other.end)];
  if (end - start + 1 > maxBody) return undefined;
  const body = Buffer.allocUnsafeSlow(end - start + 1);
  stored.body.copy(body, one.start - start);
  update.body.copy(body, other.start - start);
  const updated = headersOf(update);
  const names = new Set(updated.map(([name]) => name.toLowerCase()));
  const kept = headersOf(stored).filter(([name]) => !names.has(name.toLowerCase()));
  const removed = [...new Set([...stored.removed, ...update.removed])];
  const tags = [...new Set([...one.tags, ...other.tags])];
  const part: StoredPart = { start, end, length: one.length, tags };
  const isForAll = stored.isForAll && update.isForAll;
  return cachedResponse({ ...update, headers: [...kept, ...updated], removed, isForAll, body, part });
}

function areOfOneRepresentation(stored: CachedResponse, update: CachedResponse): boolean {
  const [one, other] = [stored, update].map((each) => JSON.stringify([each.vary, codingOf(each)]));
  return one === other && haveSameStrongValidator(stored, update);
}
