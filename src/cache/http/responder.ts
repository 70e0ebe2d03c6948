import type { IncomingMessage, ServerResponse } from 'node:http';
import { internalPurposeOf, keepClientAddress } from '../../http/internal-request.ts';
import { hasContent } from '../../http/message/request-content.ts';
import type { OuterHead } from '../../http/outer-head.ts';
import { sendProblem } from '../../http/problem-details.ts';
import type { MiddlewareOutcome } from '../../http/run-middleware.ts';
import { type Entry, usabilityOf } from '../store/entry.ts';
import type { EntryAhead } from '../store/entry-reader.ts';
import type { Fill } from '../store/fill.ts';
import type { Lookup, LookupResult, LookupSettings } from '../store/lookup.ts';
import { Acceptance } from './acceptance.ts';
import type { CachedResponse } from './cached-response.ts';
import { sendStored, whyForwarded } from './client-response.ts';
import { CONDITIONAL_FIELDS } from './conditions.ts';
import { type Exchange, Forwarder, isFilling } from './forwarder.ts';
import type { CacheDependencies, CacheSettings } from './options.ts';
import { isPartFor, PartialContent } from './partial-content.ts';
import { Refresher } from './refresher.ts';
import type { RequestKey } from './request-key.ts';
import { keyUnderRules, type ResponseMemory, responseKey } from './response-key.ts';

type LookupKind = LookupResult<CachedResponse>['kind'];

/** Answers the requests of one `kit.cache` with stored responses, and forwards all others to the handler. */
export class Responder {
  readonly #settings: CacheSettings;
  readonly #memory: ResponseMemory;
  readonly #deps: CacheDependencies;
  readonly #lookup: LookupSettings<CachedResponse>;
  readonly #refresher: Refresher;
  readonly #acceptance: Acceptance;
  readonly #parts: PartialContent;
  readonly #forwarder: Forwarder;
  readonly #ahead = new WeakMap<IncomingMessage, EntryAhead>();

  constructor(settings: CacheSettings, memory: ResponseMemory, deps: CacheDependencies) {
    const { responses } = deps.caches;
    this.#settings = settings;
    this.#memory = memory;
    this.#deps = deps;
    this.#lookup = responses.settingsOf(settings);
    this.#refresher = new Refresher(() => responses.now(), {
      failed: (error) => responses.reportFailure(error),
      refused: (url, status) => this.#refreshRefused(url, status),
    });
    this.#acceptance = new Acceptance(settings, () => responses.now());
    this.#parts = new PartialContent(deps, this.#lookup, this.#acceptance);
    this.#forwarder = new Forwarder(settings, deps, this.#parts, this.#refresher);
  }

  /** The exchange of a request; undefined for a request that must bypass the cache. */
  exchangeOf(req: IncomingMessage, res: ServerResponse): Exchange | undefined {
    const key = responseKey(req, this.#settings.key, this.#memory, this.#deps.keys);
    return key && { req, res, key };
  }

  /** Sends the read of a stored response before the turn of the cache, if the cache is expected to read it. */
  readAhead(exchange: Exchange): void {
    const { req, key } = exchange;
    if (internalPurposeOf(req) !== undefined || this.#acceptance.directivesOf(req) !== undefined) return;
    const deadline = this.#deps.deadlines.of(req);
    const ahead = this.#deps.caches.responses.sendAhead({ key, deadline }, this.#lookup);
    if (ahead !== undefined) this.#ahead.set(req, ahead);
  }

  /**
   * Answers a request before the app runs, with the local copy that the same request would get from the cache. `request`
   * is its key without what responses have declared. Returns false for all but a plain hit: conditions, Range and
   * variants are left to the app.
   */
  answerAtFront(request: RequestKey, req: IncomingMessage, res: ServerResponse, outer: OuterHead): boolean {
    const { headers } = req;
    if (CONDITIONAL_FIELDS.some((name) => headers[name] !== undefined)) return false;
    const key = keyUnderRules(req, request, this.#memory, this.#deps.keys);
    const entry = this.#deps.caches.responses.localCopy(this.#lookup, key.localKey());
    if (entry === undefined || !this.#isFrontHit(req, entry)) return false;
    outer.applyTo(res);
    this.#send({ req, res, key }, entry, 'hit');
    return true;
  }

  #isFrontHit(req: IncomingMessage, entry: Entry<CachedResponse>): boolean {
    const isFresh = usabilityOf(entry, this.#deps.caches.responses.now()) === 'fresh';
    return isFresh && entry.content.vary.names === '' && this.#acceptance.accepts(req, entry);
  }

  /** Lets the front of the kit answer from now on what this hit answers, if it is the same for every request. */
  #learnFront({ req, res, key }: Exchange, entry: Entry<CachedResponse>): void {
    const request = key.request.under(undefined);
    if (req.method !== 'GET' || hasContent(req) || request.isSecret || !this.#isFrontHit(req, entry)) return;
    this.#deps.front.learn(req, res, 'url', {
      source: this,
      id: request.id,
      send: (later, response, outer) =>
        !hasContent(later) && this.answerAtFront(request, later, response, outer),
    });
  }

  /** Returns a function that answers a request with a local copy; undefined if no local copy may answer. */
  findLocalAnswer(exchange: Exchange): (() => void) | undefined {
    const { req, key } = exchange;
    const { responses } = this.#deps.caches;
    const entry = responses.localCopy(this.#lookup, key.localKey());
    if (entry === undefined) {
      const part = this.#parts.localCopy(exchange);
      return part && isPartFor(req, part.content) ? () => this.#send(exchange, part, 'hit') : undefined;
    }
    if (!this.#acceptance.accepts(req, entry) || internalPurposeOf(req) !== undefined) return undefined;
    const { names } = entry.content.vary;
    if (names !== '' && names !== key.variesOn()) return undefined;
    const usability = usabilityOf(entry, responses.now());
    if (usability === 'fresh') {
      return () => {
        if (this.#settings.front) this.#learnFront(exchange, entry);
        this.#send(exchange, entry, 'hit');
      };
    }
    return usability === 'stale' ? this.#staleAnswer(exchange, entry) : undefined;
  }

  #staleAnswer(exchange: Exchange, entry: Entry<CachedResponse>): (() => void) | undefined {
    const { req, key } = exchange;
    const { id } = key.request;
    if (this.#refresher.isRefreshing(id)) return () => this.#send(exchange, entry, 'stale');
    const app = this.#refresher.rootAppOf(req, id);
    if (app === undefined) return undefined;
    const begin = () =>
      this.#deps.caches.responses.beginRefresh(this.#lookupOf(exchange, false), this.#lookup);
    return () => {
      this.#send(exchange, entry, 'stale');
      // Another request of the same turn may have begun to refresh.
      if (this.#refresher.isRefreshing(id)) return;
      void this.#refresher.refresh(app, { req, key: key.request, entry }, begin);
    };
  }

  async answer(exchange: Exchange): Promise<MiddlewareOutcome> {
    const { req, key } = exchange;
    const refresh = this.#refresher.refreshOf(req, key.request);
    if (refresh !== undefined) return this.#forwarder.refresh(exchange, refresh.fill, refresh.validation);
    if (isFilling(req, key.exactEntryKey)) return this.#forwarder.bypass(exchange, 'fwd=bypass');
    // The client's address is read now, since it is lost if the client disconnects before a refresh begins.
    keepClientAddress(req);
    const directives = this.#acceptance.directivesOf(req);
    if (directives?.onlyIfCached === true || req.method === 'HEAD') return this.#answerFromStore(exchange);
    if (directives?.noStore === true) return this.#forwarder.bypass(exchange, 'fwd=request');
    const miss = key.isKnownToVary ? 'fwd=vary-miss' : 'fwd=uri-miss';
    // Followers must not wait for a response that depends on credentials, may be a part, or must be newer than their
    // requests.
    const hasCredentials = this.#acceptance.hasOwnCredentials(req);
    const isAlone = hasCredentials || this.#parts.isLeftToHandler(exchange) || directives?.noCache === true;
    const settings = isAlone ? { ...this.#lookup, singleFlight: undefined } : this.#lookup;
    const result = await this.#deps.caches.responses.lookUp(this.#lookupOf(exchange), settings);
    if (result.kind === 'miss') return this.#sendPartOrForward(exchange, result, miss);
    if (result.kind === 'stale' && result.refresh !== undefined)
      return this.#refresh(exchange, result.entry, result.refresh);
    const status = result.kind === 'collapsed' ? `${miss}; collapsed` : undefined;
    this.#send(exchange, result.entry, result.kind, status);
    return 'answered';
  }

  /** Refreshes a stale response in the background, while the client gets the stale one, or by the client's request. */
  async #refresh(
    exchange: Exchange,
    entry: Entry<CachedResponse>,
    begin: () => Promise<Fill<CachedResponse>>,
  ): Promise<MiddlewareOutcome> {
    const { req, key } = exchange;
    if (this.#refresher.isRefreshing(key.request.id)) {
      this.#send(exchange, entry, 'stale');
      // The read has taken the lease, which other processes would wait for.
      void begin().then((fill) => fill.release());
      return 'answered';
    }
    const app = this.#refresher.rootAppOf(req, key.request.id);
    if (app !== undefined) {
      this.#send(exchange, entry, 'stale');
      void this.#refresher.refresh(app, { req, key: key.request, entry }, begin);
      return 'answered';
    }
    // No internal request can reach the handler, so this client's request refreshes. Others get the stale response
    // meanwhile.
    this.#refresher.leaveToClient(key.request.id);
    const validatable = this.#validates(exchange, entry) ? entry : undefined;
    const reusable = { fallback: entry, validatable, part: undefined };
    return this.#forwarder.forward(exchange, await begin(), reusable, 'fwd=stale');
  }

  /** Answers a HEAD, whose response has no body to store, or an only-if-cached request, from the store. */
  async #answerFromStore(exchange: Exchange): Promise<MiddlewareOutcome> {
    const { req, res } = exchange;
    const { responses } = this.#deps.caches;
    const entry = await responses.peek(this.#lookupOf(exchange), this.#lookup);
    if (entry !== undefined) {
      this.#send(exchange, entry, usabilityOf(entry, responses.now()) === 'fresh' ? 'hit' : 'stale');
      return 'answered';
    }
    if (this.#sendPart(exchange, await this.#parts.find(exchange))) return 'answered';
    this.#emit('miss', exchange);
    if (this.#acceptance.directivesOf(req)?.onlyIfCached !== true)
      return this.#forwarder.bypass(exchange, 'fwd=uri-miss');
    const detail = 'Nothing is stored for this request.';
    sendProblem(res, { status: 504, title: 'Gateway Timeout', detail });
    return 'answered';
  }

  async #sendPartOrForward(
    exchange: Exchange,
    { fill, fallback, validatable }: Extract<LookupResult<CachedResponse>, { kind: 'miss' }>,
    miss: string,
  ): Promise<MiddlewareOutcome> {
    const part = fallback === undefined ? await this.#parts.find(exchange) : undefined;
    if (this.#sendPart(exchange, part)) {
      fill.abandon();
      return 'answered';
    }
    const isForced = this.#acceptance.directivesOf(exchange.req)?.noCache === true;
    const reason = part === undefined ? miss : 'fwd=partial';
    const why = whyForwarded(fallback ?? validatable, this.#deps.caches.responses.now(), reason);
    const reusable = { fallback, validatable, part };
    return this.#forwarder.forward(exchange, fill, reusable, isForced ? 'fwd=request' : why);
  }

  #lookupOf(exchange: Exchange, hasDeadline = true): Lookup<CachedResponse> {
    const { req, key } = exchange;
    return {
      key,
      deadline: hasDeadline ? this.#deps.deadlines.of(req) : undefined,
      ahead: this.#ahead.get(req),
      accepts: (entry) => key.selects(entry.content) && this.#acceptance.accepts(req, entry),
      validates: (entry) => this.#validates(exchange, entry),
    };
  }

  /** Whether the handler can be asked to validate a stored response for this request. */
  #validates({ req, key }: Exchange, { content }: Entry<CachedResponse>): boolean {
    return (
      key.selects(content) &&
      this.#acceptance.mayAnswer(req, content) &&
      this.#refresher.validates(key.request.id, content)
    );
  }

  /** Sends a stored part if the part answers the request. Returns whether it was sent. */
  #sendPart(exchange: Exchange, part: Entry<CachedResponse> | undefined): boolean {
    if (part === undefined || !isPartFor(exchange.req, part.content)) return false;
    this.#send(exchange, part, 'hit');
    return true;
  }

  /** Sends a stored response, and emits the event for `kind`. `status` is the value of Cache-Status. */
  #send(exchange: Exchange, entry: Entry<CachedResponse>, kind: LookupKind, status = 'hit'): void {
    const { req, res, key } = exchange;
    const now = this.#deps.caches.responses.now();
    this.#emit(kind, exchange);
    sendStored(req, res, entry, { settings: this.#settings, key: key.request.id, now, status });
  }

  #emit(kind: LookupKind, { key }: Exchange): void {
    this.#deps.reporter.events.emit(`cache:${kind}`, { url: key.request.url });
  }

  #refreshRefused(url: string, status: number | undefined): void {
    const { reporter } = this.#deps;
    reporter.events.emit('cache:refresh-refused', { url, status });
    reporter.warning(
      `kit.cache: middleware above the cache answered a revalidation with ${status ?? 'no response'}, so a stale response was not refreshed; let requests pass for which isRevalidation(req) is true`,
    );
  }
}
