import type { IncomingMessage } from 'node:http';
import { LRUCache } from 'lru-cache';
import { internalPurposeOf } from '../../http/internal-request.ts';
import { type Entry, usabilityOf, type Validation } from '../store/entry.ts';
import type { LookupSettings } from '../store/entry-cache.ts';
import type { Fill } from '../store/fill.ts';
import type { Acceptance } from './acceptance.ts';
import type { CachedResponse } from './cached-response.ts';
import { type Conditions, LEFT_CONDITIONS, removeConditions } from './conditions.ts';
import type { CacheDependencies } from './options.ts';
import { PartTarget } from './part-target.ts';
import { type RangeRequest, rangeFor, wholeOf } from './range-response.ts';
import type { ResponseKey } from './response-key.ts';

/*
 * A 206 is stored under a key of its own, beside the complete response: a request without Range never reads it, and a process
 * of an older version does not find it.
 */

/** A request that may ask for a part. */
interface PartRequest {
  readonly req: IncomingMessage;
  /** The key of the whole. */
  readonly key: ResponseKey;
}

/** The most keys that are remembered as unstorable. */
const MAX_UNSTORABLE = 1_000;

/** Handles the requests for parts of one `kit.cache`, and the parts that are stored for them. */
export class PartialContent {
  readonly #deps: CacheDependencies;
  readonly #lookup: LookupSettings<CachedResponse>;
  readonly #acceptance: Acceptance;
  /**
   * The Redis keys of whole responses that could not be stored. A request for a part of one reaches the handler unchanged,
   * which sends the part itself. Storing the whole removes its key.
   */
  readonly #unstorable = new LRUCache<string, true>({ max: MAX_UNSTORABLE });

  constructor(deps: CacheDependencies, lookup: LookupSettings<CachedResponse>, acceptance: Acceptance) {
    this.#deps = deps;
    this.#lookup = lookup;
    this.#acceptance = acceptance;
  }

  /** Whether the handler must send the part itself, since the whole is known not to be storable. */
  areLeft({ req, key }: PartRequest): boolean {
    return req.headers.range !== undefined && this.#unstorable.has(key.redisKeys.entry);
  }

  /** Removes the conditions from the request, or leaves them to the handler. `validated` is the stored response to validate. */
  conditionsOf(request: PartRequest, validated: Validation<CachedResponse> | undefined): Conditions {
    return this.areLeft(request) ? LEFT_CONDITIONS : removeConditions(request.req, validated?.entry.content);
  }

  wholeSkipped({ redisKeys }: ResponseKey): void {
    this.#unstorable.set(redisKeys.entry, true);
  }

  wholeStored({ redisKeys }: ResponseKey): void {
    this.#unstorable.delete(redisKeys.entry);
  }

  /** The local copy of the stored part, if it is fresh. Sends no command. */
  localCopy(request: PartRequest): Entry<CachedResponse> | undefined {
    const key = this.#keyOfPart(request);
    const entry = key && this.#deps.caches.responses.localCopy(this.#lookup, key.localKey());
    return key && entry && this.#accepts(request.req, key, entry) ? entry : undefined;
  }

  /** The stored part, if it is fresh. */
  async find(request: PartRequest): Promise<Entry<CachedResponse> | undefined> {
    const key = this.#keyOfPart(request);
    if (key === undefined) return undefined;
    const { req } = request;
    const accepts = (entry: Entry<CachedResponse>) => this.#accepts(req, key, entry);
    const lookup = { key, deadline: this.#deps.deadlines.of(req), accepts };
    return this.#deps.caches.responses.peek(lookup, this.#lookup);
  }

  /**
   * Where a 206 of the handler is stored, combined with the stored part; undefined for a request without Range. `fill` is that
   * of the whole. To be called before the conditions are removed from the request.
   */
  target(
    request: PartRequest,
    fill: Fill<CachedResponse>,
    stored: Entry<CachedResponse> | undefined,
  ): PartTarget | undefined {
    const key = this.#keyOfPart(request);
    const areConditionsLeft = this.areLeft(request);
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

/** Whether a stored part answers a request: it contains the only range that the request asks for. */
export function isPartFor(req: RangeRequest, content: CachedResponse): boolean {
  const { part } = content;
  const range = part && rangeFor(req, wholeOf(content));
  if (part === undefined || range === undefined || range === 'unsatisfiable') return false;
  return part.start <= range.start && range.end <= part.end;
}
