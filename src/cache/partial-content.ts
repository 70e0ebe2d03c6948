import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { LRUCache } from 'lru-cache';
import type { Keys } from '../base/keys.ts';
import type { BudgetOf } from '../engine/budget.ts';
import { contentRangeOf } from '../http/byte-range.ts';
import { haveSameStrongValidator } from '../http/conditional.ts';
import { reentryOf } from '../http/reentry.ts';
import type { CacheRoom, LookupSettings } from './cache-room.ts';
import { type CachedResponse, cachedResponse, headersOf, type StoredPart } from './cached-response.ts';
import { type Conditions, LEFT_CONDITIONS, takeConditions } from './conditions.ts';
import { type Entry, type Lifetime, usabilityOf } from './entry.ts';
import type { Fill } from './fill.ts';
import { type MadeHead, madeResponse } from './made.ts';
import type { RequestKey } from './request-key.ts';
import { ResponsePlace } from './response-place.ts';
import { type Asking, rangeFor, wholeOf } from './serve.ts';
import type { VaryMemory } from './vary.ts';

/*
 * A 206 is stored beside the complete responses, under a key of its own: a request without Range never reads it, and a
 * process of an older version does not find it.
 */

/** The key of the stored part. No other id begins so: a host is in lower case. */
function keyOfPart(key: RequestKey): RequestKey {
  return { ...key, id: `PART ${key.id}` };
}

/** Whether a stored part may answer a request: only one for a single range inside of it. */
function isPartFor(req: Asking, content: CachedResponse): boolean {
  const { part } = content;
  const range = part && rangeFor(req, wholeOf(content));
  if (part === undefined || range === undefined || range === 'unsatisfiable') return false;
  return part.start <= range.start && range.end <= part.end;
}

export interface PartialContentDeps {
  readonly room: CacheRoom<CachedResponse>;
  readonly lookup: LookupSettings<CachedResponse>;
  readonly vary: VaryMemory;
  readonly keys: Keys;
  readonly budgetOf: BudgetOf;
  /** Whether a stored response may answer a request, apart from its range. */
  accepts(request: Pick<PartRequest, 'req'>, entry: Entry<CachedResponse>): boolean;
}

/** A request that may ask for a part. */
interface PartRequest {
  readonly req: IncomingMessage;
  readonly key: RequestKey;
  /** Where the whole is stored. */
  readonly place: ResponsePlace;
}

/** How many keys are remembered whose responses cannot be stored. */
const MAX_UNSTORABLE = 1_000;

/** The requests for parts that one `kit.cache` gets, and the parts that are stored for them. */
export class PartialContent {
  readonly #deps: PartialContentDeps;
  /**
   * The Redis keys of wholes that could not be stored. A request for a part of one goes to the handler as it is, which
   * knows how to make a part; until a whole is stored, which takes the key out.
   */
  readonly #unstorable = new LRUCache<string, true>({ max: MAX_UNSTORABLE });

  constructor(deps: PartialContentDeps) {
    this.#deps = deps;
  }

  /** Whether the handler is asked for the part itself, since the whole is known not to be stored. */
  areLeft({ req, place }: PartRequest): boolean {
    return req.headers.range !== undefined && this.#unstorable.has(place.keys.entry);
  }

  /** Takes its conditions off the request, or leaves them to the handler. */
  conditionsOf(request: PartRequest): Conditions {
    return this.areLeft(request) ? LEFT_CONDITIONS : takeConditions(request.req);
  }

  wholeSkipped({ keys }: ResponsePlace): void {
    this.#unstorable.set(keys.entry, true);
  }

  wholeStored({ keys }: ResponsePlace): void {
    this.#unstorable.delete(keys.entry);
  }

  /** A stored part that this process holds and that answers the request; sends no command. */
  held(request: PartRequest): Entry<CachedResponse> | undefined {
    const place = this.#placeOf(request);
    const entry = place && this.#deps.room.held(this.#deps.lookup, place.localKey());
    if (place === undefined || entry === undefined || !this.#accepts(request, place, entry)) return undefined;
    return isPartFor(request.req, entry.content) ? entry : undefined;
  }

  /** The part that is stored for a request, and whether it answers it; undefined for a request that asks for no part. */
  async find(request: PartRequest): Promise<PartTarget | undefined> {
    const place = this.#placeOf(request);
    if (place === undefined) return undefined;
    const { room, lookup, budgetOf } = this.#deps;
    const accepts = (entry: Entry<CachedResponse>) => this.#accepts(request, place, entry);
    const stored = await room.peek({ place, budget: budgetOf(request.req), accepts }, lookup);
    return new PartTarget(request.req, place, stored);
  }

  /** Where a part is stored that is not combined with another; undefined for a request that asks for no part. */
  target(request: PartRequest): PartTarget | undefined {
    const place = this.#placeOf(request);
    return place && new PartTarget(request.req, place, undefined);
  }

  #placeOf({ req, key }: PartRequest): ResponsePlace | undefined {
    if (req.headers.range === undefined || (req.method !== 'GET' && req.method !== 'QUERY')) return undefined;
    const { vary, keys } = this.#deps;
    return reentryOf(req) === undefined ? new ResponsePlace(req, keyOfPart(key), vary, keys) : undefined;
  }

  #accepts(request: PartRequest, place: ResponsePlace, entry: Entry<CachedResponse>): boolean {
    const isFresh = usabilityOf(entry, this.#deps.room.now()) === 'fresh';
    return isFresh && place.isFor(entry.content) && this.#deps.accepts(request, entry);
  }
}

/** Where the 206 of a handler is stored, and what it is combined with. */
export class PartTarget {
  readonly #place: ResponsePlace;
  /** The part that is stored there, which is fresh. */
  readonly stored: Entry<CachedResponse> | undefined;
  /** That, where it answers the request. */
  readonly usable: Entry<CachedResponse> | undefined;
  /** A 206 to such a request may leave out what the client has already (RFC 9110, section 15.3.7). */
  readonly #hasIfRange: boolean;
  #isMade = false;

  constructor(req: IncomingMessage, place: ResponsePlace, stored: Entry<CachedResponse> | undefined) {
    this.#place = place;
    this.stored = stored;
    this.usable = stored && isPartFor(req, stored.content) ? stored : undefined;
    this.#hasIfRange = req.headers['if-range'] !== undefined;
  }

  /** Whether the handler answers with a part that can be stored. */
  get isMade(): boolean {
    return this.#isMade;
  }

  /**
   * The head by which the handler's response is judged: a 206 is stored as an incomplete 200, by the same rules (RFC 9111,
   * section 3.3). Requests for the whole do not wait for it.
   */
  judgedHead(head: MadeHead, { fill, conditions }: WholeInTheMaking): MadeHead {
    if (head.status !== 206 || rangeIn(head) === undefined) return head;
    if (this.#hasIfRange && this.stored === undefined) return head;
    if (!this.#isMade) {
      this.#isMade = true;
      if (conditions.areLeft) fill.release();
      else fill.pass();
    }
    return headOfWhole(head);
  }

  /** What is stored of a complete 206; undefined where its content is not the range that it names. */
  responseOf(
    head: MadeHead,
    body: Buffer,
    asked: IncomingHttpHeaders,
    hasTtl: boolean,
  ): CachedResponse | undefined {
    const range = rangeIn(head);
    if (range === undefined || body.length !== range.end - range.start + 1) return undefined;
    const response = madeResponse(headOfWhole(head), body, asked, hasTtl);
    return { ...response, status: 206, part: { ...range, tags: [] } };
  }

  /** The new part, with the stored one where both are of one representation: complete once no byte is missing. */
  combine({ response, lifetime, tags, fill }: Storing, maxBody: number): Storing | undefined {
    const { part } = response;
    if (part === undefined) return undefined;
    const own = { ...response, part: { ...part, tags } };
    const stored = this.stored?.content;
    const together = stored && combined(stored, own, maxBody);
    if (together === undefined && this.#hasIfRange) return undefined;
    const made = together ?? own;
    const { start, end, length, tags: all } = together?.part ?? own.part;
    if (start === 0 && end === length - 1) {
      const whole = { ...made, status: 200, part: undefined };
      return { response: whole, lifetime, tags: all, fill: fill.beside() };
    }
    return { response: made, lifetime: lifetimeOfPart(lifetime), tags: all, fill: fill.beside(this.#place) };
  }
}

/** The making of the whole, for which other requests may wait. */
interface WholeInTheMaking {
  readonly fill: Fill<CachedResponse>;
  readonly conditions: Conditions;
}

/** A response on its way to the store. */
export interface Storing {
  readonly response: CachedResponse;
  readonly lifetime: Lifetime;
  /** The names of its tags. */
  readonly tags: readonly string[];
  readonly fill: Fill<CachedResponse>;
}

function rangeIn({ headers }: MadeHead): ReturnType<typeof contentRangeOf> {
  return contentRangeOf(String(headers['content-range'] ?? ''));
}

function headOfWhole(head: MadeHead): MadeHead {
  const { 'content-range': _, ...headers } = head.headers;
  const set = head.own.set.filter(([name]) => name.toLowerCase() !== 'content-range');
  return { ...head, status: 200, headers, own: { ...head.own, set } };
}

/** A part is served only while it is fresh, so the store keeps it no longer. */
function lifetimeOfPart(lifetime: Lifetime): Lifetime {
  return { ...lifetime, staleWhileRevalidateMs: 0, staleIfErrorMs: 0 };
}

/** RFC 9111, section 3.4. Undefined where the two may not be combined, or would not be one part. */
function combined(
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
  const renewed = headersOf(update);
  const names = new Set(renewed.map(([name]) => name.toLowerCase()));
  const kept = headersOf(stored).filter(([name]) => !names.has(name.toLowerCase()));
  const removed = [...new Set([...stored.removed, ...update.removed])];
  const part: StoredPart = {
    start,
    end,
    length: one.length,
    tags: [...new Set([...one.tags, ...other.tags])],
  };
  const isForAll = stored.isForAll && update.isForAll;
  return cachedResponse({ ...update, headers: [...kept, ...renewed], removed, isForAll, body, part });
}

function areOfOneRepresentation(stored: CachedResponse, update: CachedResponse): boolean {
  const [one, other] = [stored, update].map(({ vary, flat }) => {
    const at = flat.findIndex((name, index) => index % 2 === 0 && /^content-encoding$/i.test(String(name)));
    return JSON.stringify([vary, at === -1 ? null : flat[at + 1]]);
  });
  return one === other && haveSameStrongValidator(stored, update);
}
