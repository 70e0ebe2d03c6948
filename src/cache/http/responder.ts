import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError } from '../../base/errors.ts';
import type { CacheSubject } from '../../base/events.ts';
import type { Keys } from '../../base/keys.ts';
import type { Reporter } from '../../base/reporter.ts';
import type { BudgetOf } from '../../engine/budget.ts';
import type { Outcome } from '../../http/outcome.ts';
import { sendProblem } from '../../http/problem.ts';
import { noteClient, reentryOf } from '../../http/reentry.ts';
import { takeBody } from '../../http/response/taken-body.ts';
import { whenUnserved } from '../../http/response/unserved.ts';
import { type Entry, usabilityOf, validationOf } from '../store/entry.ts';
import type { EntryCache, Lookup, LookupResult, LookupSettings } from '../store/entry-cache.ts';
import type { Fill } from '../store/fill.ts';
import { Acceptance } from './acceptance.ts';
import { addStatus, statusOf, whyForwarded } from './cache-status.ts';
import type { CachedResponse } from './cached-response.ts';
import { type CaptureListener, captureResponse } from './capture.ts';
import { ClientResponse } from './client-response.ts';
import { NO_CONDITIONS } from './conditions.ts';
import { offerControls } from './handler-controls.ts';
import type { CacheSettings } from './options.ts';
import { PartialContent } from './partial-content.ts';
import { Refresher } from './refresher.ts';
import { isFilling, noteFill } from './request-fills.ts';
import { type RequestKey, requestKey } from './request-key.ts';
import { ResponsePlace } from './response-place.ts';
import { sendStored } from './send-response.ts';
import { type HandlerRun, StorageDecision } from './storage-decision.ts';
import { VaryMemory } from './vary.ts';

export interface ResponderDeps {
  readonly keys: Keys;
  readonly reporter: Reporter;
  readonly budgetOf: BudgetOf;
}

/** One request on its way through a cache. */
export interface Exchange {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly key: RequestKey;
  readonly place: ResponsePlace;
}

/** A stored response that may not be used as it is. */
type Found = Record<'fallback' | 'validatable' | 'part', Entry<CachedResponse> | undefined>;

/** Why a handler's response is captured. */
type Reason = Pick<HandlerRun, 'validation'> &
  Partial<Pick<HandlerRun, 'fallback' | 'isRefresh'> & Pick<Found, 'part'>> & {
    /** As Cache-Status says it. */
    readonly how: string;
  };

/** Answers the requests of one `kit.cache` from stored responses, and stores what its handlers make. */
export class Responder {
  readonly #settings: CacheSettings;
  readonly #deps: ResponderDeps;
  readonly #room: EntryCache<CachedResponse>;
  readonly #lookup: LookupSettings<CachedResponse>;
  readonly #vary = new VaryMemory();
  readonly #refresher: Refresher;
  readonly #acceptance: Acceptance;
  readonly #parts: PartialContent;

  constructor(settings: CacheSettings, room: EntryCache<CachedResponse>, deps: ResponderDeps) {
    this.#settings = settings;
    this.#deps = deps;
    this.#room = room;
    this.#refresher = new Refresher({
      now: () => room.now(),
      failed: (error) => this.#failed(error),
      refused: (url, status) => this.#refreshRefused(url, status),
    });
    this.#lookup = room.settingsOf(settings);
    const acceptance = new Acceptance(settings, () => room.now());
    this.#acceptance = acceptance;
    this.#parts = new PartialContent({ ...deps, acceptance, room, lookup: this.#lookup, vary: this.#vary });
  }

  /** Undefined for a request that is left alone. */
  exchangeOf(req: IncomingMessage, res: ServerResponse): Exchange | undefined {
    const key = requestKey(req, this.#settings.key);
    return key && { req, res, key, place: new ResponsePlace(req, key, this.#vary, this.#deps.keys) };
  }

  /** Whether it was answered from what is held here, without asking anybody. */
  answerAtOnce(exchange: Exchange): boolean {
    const { req, key, place } = exchange;
    const entry = this.#room.localCopy(this.#lookup, place.localKey());
    if (entry === undefined) return this.#sendPart(exchange, this.#parts.held(exchange));
    if (!this.#acceptance.accepts(req, entry) || reentryOf(req) !== undefined) return false;
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
    const app = isUnderWay ? undefined : this.#refresher.appOf(req, key.id);
    if (!isUnderWay && app === undefined) return false;
    this.#deps.reporter.events.emit('cache:stale', { url: key.url });
    this.#send(exchange, entry, 'hit');
    if (app !== undefined) {
      const begin = () => this.#room.beginRefresh(this.#lookupOf(exchange, false), this.#lookup);
      void this.#refresher.refresh(app, { req, id: key.id, url: key.url, entry }, begin);
    }
    return true;
  }

  async answer(exchange: Exchange): Promise<Outcome> {
    const { req, key } = exchange;
    const refresh = this.#refresher.refreshOf(req, key.id);
    if (refresh !== undefined) {
      const { fill, validation } = refresh;
      this.#capture(exchange, fill, { validation, isRefresh: true, how: 'fwd=stale' });
      return 'continue';
    }
    if (isFilling(req, exchange.place.redisKeys.entry)) return this.#goPast(exchange, 'fwd=bypass');
    // It may be gone when it is known that what is stored is stale.
    noteClient(req);
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
    const answer = await this.#room.lookUp(lookup, settings);
    if (answer.kind === 'miss') return this.#sendPartOrMake(exchange, answer, miss);
    const { entry, kind: how } = answer;
    const begin = answer.kind === 'stale' ? answer.refresh : undefined;
    const app = begin === undefined ? undefined : this.#refresher.appOf(req, key.id);
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
      void this.#refresher.refresh(app, { req, id: key.id, url: key.url, entry }, begin);
    return 'answered';
  }

  /** For HEAD, of which no body can be kept, and for clients that want a stored response or none. */
  async #answerWithoutMaking(exchange: Exchange): Promise<Outcome> {
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

  #goPast({ req, res, key }: Exchange, how: string): Outcome {
    addStatus(res, statusOf(this.#settings, how, key.id));
    offerControls(req);
    return 'continue';
  }

  async #sendPartOrMake(
    exchange: Exchange,
    { fill, fallback, validatable }: Extract<LookupResult<CachedResponse>, { kind: 'miss' }>,
    miss: string,
  ): Promise<Outcome> {
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

  #make(exchange: Exchange, fill: Fill<CachedResponse>, found: Found, how: string): Outcome {
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
    noteFill(req, place.redisKeys.entry);
    // Its followers do not wait for a handler that will not run.
    whenUnserved(res, () => fill.abandon());
    // The others wait for the body, and not for the client that this response goes to. The fill ends at `maxBody`.
    fill.onAwaited(takeBody(res, () => fill.isAwaited));
    const run = {
      fallback,
      validation,
      isRefresh,
      part: this.#parts.target(exchange, fill, why.part),
      conditions: isRefresh ? NO_CONDITIONS : this.#parts.conditionsOf(exchange, validation),
    };
    const client = new ClientResponse(res, run, {
      settings: this.#settings,
      key: key.id,
      now: () => this.#room.now(),
      forwarded: how,
      fellBack: () => events.emit('cache:stale', subject),
    });
    const { keys } = this.#deps;
    const rules = { settings: this.#settings, keys, controls: offerControls(req) };
    const decision = new StorageDecision(req, res, run, rules);
    const listener: CaptureListener = {
      stored: (bytes, { part }) => {
        if (part === undefined) this.#parts.wholeStored(place);
        events.emit('cache:stored', { ...subject, bytes });
      },
      skipped: (reason, isWhole) => {
        if (isWhole) this.#parts.wholeSkipped(place);
        if (reason === 'validator') this.#refresher.cannotValidate(key.id);
        events.emit('cache:skipped', { ...subject, reason });
      },
      failed: (error) => this.#failed(error),
    };
    captureResponse(req, res, { decision, client, fill, listener });
  }

  #lookupOf(exchange: Exchange, hasBudget = true): Lookup<CachedResponse> {
    const { req, place } = exchange;
    const budget = hasBudget ? this.#deps.budgetOf(req) : undefined;
    return {
      key: place,
      budget,
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
    const now = this.#room.now();
    sendStored(req, res, entry, { settings: this.#settings, key: key.id, now, status: how });
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
