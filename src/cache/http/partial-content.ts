import type { IncomingMessage } from 'node:http';
import { LRUCache } from 'lru-cache';
import type { Keys } from '../../base/keys.ts';
import type { BudgetOf } from '../../engine/budget.ts';
import { reentryOf } from '../../http/reentry.ts';
import { type Entry, usabilityOf, type Validation } from '../store/entry.ts';
import type { EntryCache, LookupSettings } from '../store/entry-cache.ts';
import type { Fill } from '../store/fill.ts';
import type { Acceptance } from './acceptance.ts';
import type { CachedResponse } from './cached-response.ts';
import { type Conditions, LEFT_CONDITIONS, removeConditions } from './conditions.ts';
import { PartTarget } from './part-target.ts';
import { type RangeRequest, rangeFor, wholeOf } from './range-response.ts';
import type { RequestKey } from './request-key.ts';
import { ResponsePlace } from './response-place.ts';
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
function isPartFor(req: RangeRequest, content: CachedResponse): boolean {
  const { part } = content;
  const range = part && rangeFor(req, wholeOf(content));
  if (part === undefined || range === undefined || range === 'unsatisfiable') return false;
  return part.start <= range.start && range.end <= part.end;
}

export interface PartialContentDeps {
  readonly room: EntryCache<CachedResponse>;
  readonly lookup: LookupSettings<CachedResponse>;
  readonly vary: VaryMemory;
  readonly keys: Keys;
  readonly budgetOf: BudgetOf;
  readonly acceptance: Acceptance;
}

/** A request that may ask for a part. */
interface PartRequest {
  readonly req: IncomingMessage;
  readonly key: RequestKey;
  /** Where the whole is stored. */
  readonly place: ResponsePlace;
}

/** What is found of a part. */
export interface FoundPart {
  /** The part that is stored, which is fresh. */
  readonly stored: Entry<CachedResponse> | undefined;
  /** That, where it answers the request. */
  readonly usable: Entry<CachedResponse> | undefined;
}

const NO_PART: FoundPart = { stored: undefined, usable: undefined };

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
    return req.headers.range !== undefined && this.#unstorable.has(place.redisKeys.entry);
  }

  /** Takes its conditions off the request, or leaves them to the handler; `validated` is what that is asked to validate. */
  conditionsOf(request: PartRequest, validated: Validation<CachedResponse> | undefined): Conditions {
    return this.areLeft(request) ? LEFT_CONDITIONS : removeConditions(request.req, validated?.entry.content);
  }

  wholeSkipped({ redisKeys }: ResponsePlace): void {
    this.#unstorable.set(redisKeys.entry, true);
  }

  wholeStored({ redisKeys }: ResponsePlace): void {
    this.#unstorable.delete(redisKeys.entry);
  }

  /** A stored part that this process holds and that answers the request; sends no command. */
  held(request: PartRequest): Entry<CachedResponse> | undefined {
    const place = this.#placeOf(request);
    const entry = place && this.#deps.room.localCopy(this.#deps.lookup, place.localKey());
    if (place === undefined || entry === undefined || !this.#accepts(request, place, entry)) return undefined;
    return isPartFor(request.req, entry.content) ? entry : undefined;
  }

  /** The part that is stored for a request. */
  async find(request: PartRequest): Promise<FoundPart> {
    const place = this.#placeOf(request);
    if (place === undefined) return NO_PART;
    const { room, lookup, budgetOf } = this.#deps;
    const accepts = (entry: Entry<CachedResponse>) => this.#accepts(request, place, entry);
    const stored = await room.peek({ key: place, budget: budgetOf(request.req), accepts }, lookup);
    const isUsable = stored !== undefined && isPartFor(request.req, stored.content);
    return { stored, usable: isUsable ? stored : undefined };
  }

  /**
   * Where the handler's 206 is stored, combined with the part that was found; undefined for a request that asks for no part.
   * `fill` is that of the whole. Called before the conditions are taken off the request.
   */
  target(
    request: PartRequest,
    fill: Fill<CachedResponse>,
    stored: Entry<CachedResponse> | undefined,
  ): PartTarget | undefined {
    const key = this.#placeOf(request);
    const areConditionsLeft = this.areLeft(request);
    const hasIfRange = request.req.headers['if-range'] !== undefined;
    return key && new PartTarget({ key, stored: stored?.content, fill, areConditionsLeft, hasIfRange });
  }

  #placeOf({ req, key }: PartRequest): ResponsePlace | undefined {
    if (req.headers.range === undefined || (req.method !== 'GET' && req.method !== 'QUERY')) return undefined;
    const { vary, keys } = this.#deps;
    return reentryOf(req) === undefined ? new ResponsePlace(req, keyOfPart(key), vary, keys) : undefined;
  }

  #accepts(request: PartRequest, place: ResponsePlace, entry: Entry<CachedResponse>): boolean {
    const isFresh = usabilityOf(entry, this.#deps.room.now()) === 'fresh';
    return isFresh && place.isFor(entry.content) && this.#deps.acceptance.accepts(request.req, entry);
  }
}
