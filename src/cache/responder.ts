import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError } from '../base/errors.ts';
import type { CacheSubject } from '../base/events.ts';
import type { Keys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import type { BudgetOf } from '../engine/budget.ts';
import type { Outcome } from '../http/outcome.ts';
import { sendProblem } from '../http/problem.ts';
import { noteClient, reentryOf } from '../http/reentry.ts';
import { takeBody } from '../http/taken-body.ts';
import { whenUnserved } from '../http/unserved.ts';
import type { CacheRoom, Lookup, LookupSettings } from './cache-room.ts';
import type { CachedResponse } from './cached-response.ts';
import { captureResponse } from './capture.ts';
import { NO_CONDITIONS } from './conditions.ts';
import { type Entry, usabilityOf } from './entry.ts';
import type { Fill } from './fill.ts';
import { offerControls } from './handler-controls.ts';
import type { CacheSettings } from './options.ts';
import { PartialContent, type PartTarget } from './partial-content.ts';
import { Refresher } from './refresher.ts';
import { requestDirectives } from './request-directives.ts';
import { type RequestKey, requestKey } from './request-key.ts';
import { ResponsePlace } from './response-place.ts';
import { sendEntry } from './serve.ts';
import { addStatus, statusOf } from './status.ts';
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

/** Why a handler's response is captured. */
interface Making {
  readonly fallback?: Entry<CachedResponse> | undefined;
  readonly confirms?: Entry<CachedResponse> | undefined;
  readonly part?: PartTarget | undefined;
  readonly isRefresh?: boolean;
  /** As Cache-Status says it. */
  readonly how: string;
}

/** Answers the requests of one `kit.cache` from stored responses, and stores what its handlers make. */
export class Responder {
  readonly #settings: CacheSettings;
  readonly #deps: ResponderDeps;
  readonly #room: CacheRoom<CachedResponse>;
  readonly #lookup: LookupSettings<CachedResponse>;
  readonly #vary = new VaryMemory();
  readonly #refresher: Refresher;
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
    const { keys, budgetOf } = deps;
    const accepts = this.#accepts.bind(this);
    this.#parts = new PartialContent({
      room,
      lookup: this.#lookup,
      vary: this.#vary,
      keys,
      budgetOf,
      accepts,
    });
  }

  /** Undefined for a request that is left alone. */
  exchangeOf(req: IncomingMessage, res: ServerResponse): Exchange | undefined {
    const key = requestKey(req, this.#settings.key);
    return key && { req, res, key, place: new ResponsePlace(req, key, this.#vary, this.#deps.keys) };
  }

  /** Whether it was answered from what is held here, without asking anybody. */
  answerAtOnce(exchange: Exchange): boolean {
    const { req, key, place } = exchange;
    const entry = this.#room.held(this.#lookup, place.localKey());
    if (entry === undefined) return this.#sendPart(exchange, this.#parts.held(exchange));
    if (!this.#accepts(exchange, entry) || reentryOf(req) !== undefined) return false;
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
      const begin = () => this.#room.refresh(this.#lookupOf(exchange, false), this.#lookup);
      void this.#refresher.refresh(app, { req, id: key.id, url: key.url, entry }, begin);
    }
    return true;
  }

  async answer(exchange: Exchange): Promise<Outcome> {
    const { req, key } = exchange;
    const refresh = this.#refresher.refreshOf(req, key.id);
    if (refresh !== undefined) {
      const { fill, confirms } = refresh;
      this.#capture(exchange, fill, { confirms, isRefresh: true, how: 'fwd=stale' });
      return 'continue';
    }
    // It may be gone when it is known that what is stored is stale.
    noteClient(req);
    const directives = this.#directivesOf(req);
    if (directives?.onlyIfCached === true || req.method === 'HEAD')
      return this.#answerWithoutMaking(exchange);
    if (directives?.noStore === true) return this.#goPast(exchange, 'fwd=request');
    const lookup = this.#lookupOf(exchange);
    const miss = exchange.place.isKnownToVary ? 'fwd=vary-miss' : 'fwd=uri-miss';
    if (directives?.noCache === true) {
      const fill = await this.#room.fillOf(lookup, this.#lookup);
      return this.#make(exchange, fill, { how: 'fwd=request' });
    }
    const isForOne = req.headers.authorization !== undefined && !this.#isKeyedByCredentials;
    // It may get a part, which the others cannot use.
    const isAlone = isForOne || this.#parts.areLeft(exchange);
    const settings = isAlone ? { ...this.#lookup, singleFlight: undefined } : this.#lookup;
    const answer = await this.#room.obtain(lookup, settings);
    if (answer.how === 'make') {
      const { fill, fallback } = answer;
      if (fallback !== undefined) return this.#make(exchange, fill, { fallback, how: 'fwd=stale' });
      const part = await this.#parts.find(exchange);
      if (this.#sendPart(exchange, part?.usable)) {
        fill.abandon();
        return 'answered';
      }
      return this.#make(exchange, fill, { part, how: part?.stored === undefined ? miss : 'fwd=partial' });
    }
    const { entry, how } = answer;
    const begin = answer.how === 'stale' ? answer.refresh : undefined;
    const app = begin === undefined ? undefined : this.#refresher.appOf(req, key.id);
    if (begin !== undefined && app === undefined) {
      // Nobody else can ask the handler: this request does, and the others get what is stale meanwhile.
      this.#refresher.leaveToClient(key.id);
      return this.#make(exchange, await begin(), { fallback: entry, how: 'fwd=stale' });
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
    if (this.#sendPart(exchange, (await this.#parts.find(exchange))?.usable)) return 'answered';
    this.#deps.reporter.events.emit('cache:miss', { url: key.url });
    if (this.#directivesOf(req)?.onlyIfCached !== true) return this.#goPast(exchange, 'fwd=uri-miss');
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

  #make(
    exchange: Exchange,
    fill: Fill<CachedResponse>,
    why: Pick<Making, 'fallback' | 'part' | 'how'>,
  ): Outcome {
    this.#deps.reporter.events.emit('cache:miss', { url: exchange.key.url });
    this.#capture(exchange, fill, why);
    return 'continue';
  }

  #capture(
    exchange: Exchange,
    fill: Fill<CachedResponse>,
    { fallback, confirms, part, isRefresh = false, how }: Making,
  ): void {
    const { req, res, key, place } = exchange;
    const { events } = this.#deps.reporter;
    const subject: CacheSubject = { url: key.url };
    // Its followers do not wait for a handler that will not run.
    whenUnserved(res, () => fill.abandon());
    // The others wait for the body, and not for the client that this response goes to. It ends at `maxBody`.
    takeBody(res, () => fill.isAwaited);
    captureResponse(req, res, {
      settings: this.#settings,
      key: key.id,
      fill,
      fallback,
      confirms,
      isRefresh,
      part: part ?? this.#parts.target(exchange),
      conditions: confirms === undefined ? this.#parts.conditionsOf(exchange) : NO_CONDITIONS,
      controls: offerControls(req),
      now: () => this.#room.now(),
      forwarded: how,
      nameOf: (tag) => this.#deps.keys.cacheName('tag', tag),
      fellBack: () => events.emit('cache:stale', subject),
      stored: (bytes, { part }) => {
        if (part === undefined) this.#parts.wholeStored(place);
        events.emit('cache:stored', { ...subject, bytes });
      },
      wholeSkipped: () => this.#parts.wholeSkipped(place),
      skipped: (reason) => {
        if (reason === 'validator') this.#refresher.cannotConfirm(key.id);
        events.emit('cache:skipped', { ...subject, reason });
      },
      failed: (error) => this.#failed(error),
    });
  }

  #lookupOf(exchange: Exchange, hasBudget = true): Lookup<CachedResponse> {
    const { req, place } = exchange;
    const budget = hasBudget ? this.#deps.budgetOf(req) : undefined;
    return {
      place,
      budget,
      accepts: (entry) => place.isFor(entry.content) && this.#accepts(exchange, entry),
    };
  }

  #accepts({ req }: Pick<Exchange, 'req'>, entry: Entry<CachedResponse>): boolean {
    const { authorization } = req.headers;
    if (authorization !== undefined && !entry.content.isForAll && !this.#isKeyedByCredentials) return false;
    return this.#directivesOf(req)?.accepts(entry, this.#room.now()) ?? true;
  }

  get #isKeyedByCredentials(): boolean {
    return this.#settings.key.headers.includes('authorization');
  }

  #directivesOf({ headers }: Pick<IncomingMessage, 'headers'>): ReturnType<typeof requestDirectives> {
    return this.#settings.honorsDirectives ? requestDirectives(headers) : undefined;
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
