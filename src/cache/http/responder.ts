import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError } from '../../base/errors.ts';
import type { CacheSubject } from '../../base/events.ts';
import type { Keys } from '../../base/keys.ts';
import type { Reporter } from '../../base/reporter.ts';
import type { RequestDeadlines } from '../../engine/deadline.ts';
import { internalPurposeOf, keepClientAddress } from '../../http/internal-request.ts';
import { sendProblem } from '../../http/problem-details.ts';
import { suspendBackpressure } from '../../http/response/backpressure.ts';
import { whenUnserved } from '../../http/response/unserved.ts';
import type { MiddlewareOutcome } from '../../http/run-middleware.ts';
import type { Answer, CacheRoom, Lookup, LookupSettings } from '../store/cache-room.ts';
import { type Entry, usabilityOf, validationOf } from '../store/entry.ts';
import type { Fill } from '../store/fill.ts';
import { Acceptance } from './acceptance.ts';
import type { CachedResponse } from './cached-response.ts';
import { captureResponse } from './capture.ts';
import type { CaptureContext } from './capture-context.ts';
import { NO_CONDITIONS } from './conditions.ts';
import { Exchange, placeOfRequest } from './exchange.ts';
import { namesToPurgeBy } from './groups.ts';
import { offerControls } from './handler-controls.ts';
import type { CacheSettings } from './options.ts';
import { PartialContent } from './partial-content.ts';
import { Refresher } from './refresher.ts';
import { isFilling, noteFill } from './request-fills.ts';
import type { ResponseMemory } from './response-place.ts';
import { sendEntry } from './serve.ts';
import { addStatus, statusOf, whyForwarded } from './status.ts';

export interface CacheDeps {
  readonly keys: Keys;
  readonly reporter: Reporter;
  readonly deadlines: RequestDeadlines;
}

export interface ResponderDeps extends CacheDeps {
  readonly memory: ResponseMemory;
}

/** A stored response that may not be used as it is. */
type Found = Record<'fallback' | 'validatable' | 'part', Entry<CachedResponse> | undefined>;

/** Why a handler's response is captured. */
type Reason = Pick<CaptureContext, 'validation'> &
  Partial<Pick<CaptureContext, 'fallback' | 'isRefresh'> & Pick<Found, 'part'>> & {
    /** As Cache-Status says it. */
    readonly how: string;
  };

/** Answers the requests of one `kit.cache` from stored responses, and stores what its handlers make. */
export class Responder {
  readonly #settings: CacheSettings;
  readonly #deps: ResponderDeps;
  readonly #room: CacheRoom<CachedResponse>;
  readonly #lookup: LookupSettings<CachedResponse>;
  readonly #refresher: Refresher;
  readonly #acceptance: Acceptance;
  readonly #parts: PartialContent;

  constructor(settings: CacheSettings, room: CacheRoom<CachedResponse>, deps: ResponderDeps) {
    const { local, singleFlight } = settings;
    this.#settings = settings;
    this.#deps = deps;
    this.#room = room;
    this.#refresher = new Refresher({
      now: () => room.now(),
      failed: (error) => this.#failed(error),
      refused: (url, status) => this.#refreshRefused(url, status),
    });
    const copies = local?.maxBytes === undefined ? room.shared : room.ownCopies(local.maxBytes);
    this.#lookup = {
      singleFlight,
      local: local === undefined ? undefined : { copies, maxAgeMs: local.maxAgeMs },
    };
    const acceptance = new Acceptance(settings, () => room.now());
    this.#acceptance = acceptance;
    this.#parts = new PartialContent({ ...deps, acceptance, room, lookup: this.#lookup });
  }

  /** Undefined for a request that is left alone. */
  exchangeOf(req: IncomingMessage, res: ServerResponse): Exchange | undefined {
    const place = placeOfRequest(req, this.#settings.key, this.#deps.memory, this.#deps.keys);
    return place && new Exchange(req, res, place);
  }

  /** Whether it was answered from what is held here, without asking anybody. */
  answerAtOnce(exchange: Exchange): boolean {
    const { req, key, place } = exchange;
    const entry = this.#room.held(this.#lookup, place.localKey());
    if (entry === undefined) return this.#sendPart(exchange, this.#parts.held(exchange));
    if (!this.#acceptance.accepts(req, entry) || internalPurposeOf(req) !== undefined) return false;
    const { names } = entry.content.vary;
    if (names !== '' && names !== place.variesOn()) return false;
    const now = this.#room.now();
    const usability = usabilityOf(entry, now);
    if (usability === 'fresh') {
      this.#deps.reporter.events.emit('cache:hit', { url: key.url });
      this.#send(exchange, entry, 'hit');
      return true;
    }
    if (usability !== 'stale') return false;
    const isUnderWay = this.#refresher.isUnderWay(key.id);
    const app = isUnderWay ? undefined : this.#refresher.rootAppOf(req, key.id);
    if (!isUnderWay && app === undefined) return false;
    this.#deps.reporter.events.emit('cache:stale', { url: key.url });
    this.#send(exchange, entry, 'hit');
    if (app !== undefined) {
      const begin = () => this.#room.refresh(this.#lookupOf(exchange, false), this.#lookup);
      void this.#refresher.refresh(app, { req, key, entry }, begin);
    }
    return true;
  }

  async answer(exchange: Exchange): Promise<MiddlewareOutcome> {
    const { req } = exchange;
    const refresh = this.#refresher.refreshOf(req, exchange.key);
    if (refresh !== undefined) {
      const { fill, validation } = refresh;
      this.#capture(exchange, fill, { validation, isRefresh: true, how: 'fwd=stale' });
      return 'continue';
    }
    if (isFilling(req, exchange.place.exactEntry)) return this.#goPast(exchange, 'fwd=bypass');
    // It may be gone when it is known that what is stored is stale.
    keepClientAddress(req);
    const directives = this.#acceptance.directivesOf(req);
    if (directives?.onlyIfCached === true || req.method === 'HEAD')
      return this.#answerWithoutMaking(exchange);
    if (directives?.noStore === true) return this.#goPast(exchange, 'fwd=request');
    const lookup = this.#lookupOf(exchange);
    const miss = exchange.place.isKnownToVary ? 'fwd=vary-miss' : 'fwd=uri-miss';
    const isForOne = this.#acceptance.hasOwnCredentials(req);
    // It may get a part, which the others cannot use.
    const isAlone = isForOne || this.#parts.areLeft(exchange) || directives?.noCache === true;
    const settings = isAlone ? { ...this.#lookup, singleFlight: undefined } : this.#lookup;
    const answer = await this.#room.obtain(lookup, settings);
    if (answer.how === 'make') return this.#sendPartOrMake(exchange, answer, miss);
    const { entry, how } = answer;
    const { key } = exchange;
    const begin = answer.how === 'stale' ? answer.refresh : undefined;
    const app = begin === undefined ? undefined : this.#refresher.rootAppOf(req, key.id);
    if (begin !== undefined && app === undefined) {
      // Nobody else can ask the handler: this request does, and the others get what is stale meanwhile.
      this.#refresher.leaveToClient(key.id);
      const validatable = this.#validates(exchange, entry) ? entry : undefined;
      const found = { fallback: entry, validatable, part: undefined };
      return this.#make(exchange, await begin(), found, 'fwd=stale');
    }
    this.#deps.reporter.events.emit(`cache:${how}`, { url: key.url });
    this.#send(exchange, entry, how === 'collapsed' ? `${miss}; collapsed` : 'hit');
    if (begin !== undefined && app !== undefined)
      void this.#refresher.refresh(app, { req, key, entry }, begin);
    return 'answered';
  }

  /** For HEAD, of which no body can be kept, and for clients that want a stored response or none. */
  async #answerWithoutMaking(exchange: Exchange): Promise<MiddlewareOutcome> {
    const { req, res, key } = exchange;
    const entry = await this.#room.peek(this.#lookupOf(exchange), this.#lookup);
    if (entry !== undefined) {
      const isFresh = usabilityOf(entry, this.#room.now()) === 'fresh';
      this.#deps.reporter.events.emit(isFresh ? 'cache:hit' : 'cache:stale', { url: key.url });
      this.#send(exchange, entry, 'hit');
      return 'answered';
    }
    if (this.#sendPart(exchange, (await this.#parts.find(exchange)).usable)) return 'answered';
    this.#deps.reporter.events.emit('cache:miss', { url: key.url });
    if (this.#acceptance.directivesOf(req)?.onlyIfCached !== true)
      return this.#goPast(exchange, 'fwd=uri-miss');
    sendProblem(res, {
      status: 504,
      title: 'Gateway Timeout',
      detail: 'Nothing is stored for this request.',
    });
    return 'answered';
  }

  #goPast({ req, res, key }: Exchange, how: string): MiddlewareOutcome {
    addStatus(res, statusOf(this.#settings, how, key.id));
    offerControls(req);
    return 'continue';
  }

  async #sendPartOrMake(
    exchange: Exchange,
    { fill, fallback, validatable }: Extract<Answer<CachedResponse>, { how: 'make' }>,
    miss: string,
  ): Promise<MiddlewareOutcome> {
    const part = fallback === undefined ? await this.#parts.find(exchange) : undefined;
    if (this.#sendPart(exchange, part?.usable)) {
      fill.abandon();
      return 'answered';
    }
    const isForced = this.#acceptance.directivesOf(exchange.req)?.noCache === true;
    const without = part?.stored === undefined ? miss : 'fwd=partial';
    const why = whyForwarded(fallback ?? validatable, this.#room.now(), without);
    const found = { fallback, validatable, part: part?.stored };
    return this.#make(exchange, fill, found, isForced ? 'fwd=request' : why);
  }

  #make(exchange: Exchange, fill: Fill<CachedResponse>, found: Found, how: string): MiddlewareOutcome {
    this.#deps.reporter.events.emit('cache:miss', { url: exchange.key.url });
    const { fallback, validatable, part } = found;
    const isAsked = validatable !== undefined && !this.#parts.areLeft(exchange);
    const validation = isAsked ? validationOf(validatable) : undefined;
    this.#capture(exchange, fill, { fallback, validation, part, how });
    return 'continue';
  }

  #capture(exchange: Exchange, fill: Fill<CachedResponse>, why: Reason): void {
    const { req, res, key, place } = exchange;
    const { events } = this.#deps.reporter;
    const { fallback, validation, isRefresh = false, how } = why;
    const subject: CacheSubject = { url: key.url };
    noteFill(req, place.exactEntry);
    // Its followers do not wait for a handler that will not run.
    whenUnserved(res, () => fill.abandon());
    // The others wait for the body, and not for the client that this response goes to. The fill ends at `maxBody`.
    fill.whenAwaited(suspendBackpressure(res, () => fill.isAwaited));
    captureResponse(req, res, {
      settings: this.#settings,
      key: key.id,
      fill,
      fallback,
      validation,
      isRefresh,
      part: this.#parts.target(exchange, fill, why.part),
      conditions: isRefresh ? NO_CONDITIONS : this.#parts.conditionsOf(exchange, validation),
      controls: offerControls(req),
      now: () => this.#room.now(),
      forwarded: how,
      namesOf: (tags, headers) => namesToPurgeBy(req, { tags, headers }, this.#settings.key, this.#deps.keys),
      fellBack: () => events.emit('cache:stale', subject),
      stored: (bytes, { part }) => {
        if (part === undefined) this.#parts.wholeStored(place);
        events.emit('cache:stored', { ...subject, bytes });
      },
      wholeSkipped: () => this.#parts.wholeSkipped(place),
      skipped: (reason) => {
        if (reason === 'validator') this.#refresher.cannotValidate(key.id);
        events.emit('cache:skipped', { ...subject, reason });
      },
      failed: (error) => this.#failed(error),
    });
  }

  #lookupOf(exchange: Exchange, hasDeadline = true): Lookup<CachedResponse> {
    const { req, place } = exchange;
    const deadline = hasDeadline ? this.#deps.deadlines.of(req) : undefined;
    return {
      place,
      deadline,
      accepts: (entry) => place.isFor(entry.content) && this.#acceptance.accepts(req, entry),
      validates: (entry) => this.#validates(exchange, entry),
    };
  }

  /** Whether the handler can be asked to validate what may not be used as it is. */
  #validates({ req, key, place }: Exchange, { content }: Entry<CachedResponse>): boolean {
    return (
      place.isFor(content) &&
      this.#acceptance.mayAnswer(req, content) &&
      this.#refresher.validates(key.id, content)
    );
  }

  /** Whether there is a stored part for the request, which answers it. */
  #sendPart(exchange: Exchange, part: Entry<CachedResponse> | undefined): boolean {
    if (part === undefined) return false;
    this.#deps.reporter.events.emit('cache:hit', { url: exchange.key.url });
    this.#send(exchange, part, 'hit');
    return true;
  }

  #send({ req, res, key }: Exchange, entry: Entry<CachedResponse>, how: string): void {
    sendEntry(req, res, entry, { settings: this.#settings, key: key.id, now: this.#room.now(), how });
  }

  #refreshRefused(url: string, status: number | undefined): void {
    const { reporter } = this.#deps;
    reporter.events.emit('cache:refresh-refused', { url, status });
    reporter.warning(
      `kit.cache: middleware above the cache answered a revalidation with ${status ?? 'nothing'}, so a stale response stays stale; let requests pass for which isRevalidation(req) is true`,
    );
  }

  #failed(error: unknown): void {
    this.#deps.reporter.failure('cache', asError(error));
  }
}
