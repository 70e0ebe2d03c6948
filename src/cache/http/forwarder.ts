import type { IncomingMessage, ServerResponse } from 'node:http';
import type { CacheSubject } from '../../base/events.ts';
import { suspendBackpressure } from '../../http/response/backpressure.ts';
import { isHeadOpen } from '../../http/response/guarded-response.ts';
import { hasEnded, whenUnserved } from '../../http/response/unserved.ts';
import type { MiddlewareOutcome } from '../../http/run-middleware.ts';
import { type Entry, type Validation, validationOf } from '../store/entry.ts';
import type { Fill } from '../store/fill.ts';
import type { CachedResponse } from './cached-response.ts';
import { type CaptureListener, captureResponse } from './capture.ts';
import { addStatus, ClientResponse, statusOf } from './client-response.ts';
import { offerControls } from './handler-controls.ts';
import type { CacheDependencies, CacheSettings } from './options.ts';
import type { PartialContent } from './partial-content.ts';
import type { Refresher } from './refresher.ts';
import type { ResponseKey } from './response-key.ts';
import { type HandlerRun, PLAIN_RUN, StorageDecision } from './storage-decision.ts';

/** A request that a cache handles, its response, and its key. */
export interface Exchange {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly key: ResponseKey;
}

/**
 * Stored responses that may not answer the request as they are, but replace a server error (`fallback`), can be
 * validated (`validatable`), or can be combined with a new part (`part`).
 */
export type ReusableResponses = Readonly<
  Record<'fallback' | 'validatable' | 'part', Entry<CachedResponse> | undefined>
>;

const FILLED_KEYS: unique symbol = Symbol('the keys that the request fills');

type FillingRequest = IncomingMessage & { [FILLED_KEYS]?: Set<string> };

/**
 * Whether an earlier cache already fills the key with the response to this request. A second fill would wait for the
 * first one, which waits for this request.
 */
export function isFilling(req: FillingRequest, key: string): boolean {
  return req[FILLED_KEYS]?.has(key) === true;
}

/** Forwards the requests of one `kit.cache` to the handler, and captures the handler's responses. */
export class Forwarder {
  readonly #settings: CacheSettings;
  readonly #deps: CacheDependencies;
  readonly #parts: PartialContent;
  readonly #refresher: Refresher;

  constructor(settings: CacheSettings, deps: CacheDependencies, parts: PartialContent, refresher: Refresher) {
    this.#settings = settings;
    this.#deps = deps;
    this.#parts = parts;
    this.#refresher = refresher;
  }

  /** Forwards a request whose response is not stored. `reason` is the parameter `fwd` of Cache-Status. */
  bypass({ req, res, key }: Exchange, reason: string): 'continue' {
    addStatus(res, statusOf(this.#settings, reason, key.request.id));
    offerControls(req);
    return 'continue';
  }

  /** Forwards a request whose response ends the fill of its key. `reason` is the parameter `fwd` of Cache-Status. */
  forward(
    exchange: Exchange,
    fill: Fill<CachedResponse>,
    { fallback, validatable, part }: ReusableResponses,
    reason: string,
  ): MiddlewareOutcome {
    this.#deps.reporter.events.emit('cache:miss', { url: exchange.key.request.url });
    const isValidated = validatable !== undefined && !this.#parts.isLeftToHandler(exchange);
    const validation = isValidated ? validationOf(validatable) : undefined;
    const run = {
      fallback,
      validation,
      part: this.#parts.target(exchange, fill, part),
      conditions: this.#parts.conditionsOf(exchange, validation),
      isRefresh: false,
    };
    return this.#capture(exchange, fill, run, reason);
  }

  /** Forwards the internal request of a refresh. */
  refresh(
    exchange: Exchange,
    fill: Fill<CachedResponse>,
    validation: Validation<CachedResponse> | undefined,
  ): MiddlewareOutcome {
    return this.#capture(exchange, fill, { ...PLAIN_RUN, validation, isRefresh: true }, 'fwd=stale');
  }

  #capture(
    exchange: Exchange,
    fill: Fill<CachedResponse>,
    run: HandlerRun,
    reason: string,
  ): MiddlewareOutcome {
    const { req, res, key } = exchange;
    if (!isHeadOpen(res)) {
      // Another middleware has begun the response, such as a timeout, so no followers must wait for it.
      fill.release();
      run.conditions.restore();
      return hasEnded(res) ? 'gone' : this.bypass(exchange, reason);
    }
    const settings = this.#settings;
    const { keys, caches, reporter } = this.#deps;
    const subject = { url: key.request.url };
    noteFill(req, key.exactEntryKey);
    // If no handler runs, followers must not wait for one.
    whenUnserved(res, () => fill.abandon());
    // While followers wait for the body, a slow client of this request must not delay the handler. A body over
    // `maxBody` ends the fill.
    fill.onAwaited(suspendBackpressure(res, () => fill.isAwaited));
    const decision = new StorageDecision(req, res, run, { settings, keys, controls: offerControls(req) });
    const client = new ClientResponse(res, run, {
      settings,
      key: key.request.id,
      forwarded: reason,
      now: () => caches.responses.now(),
      fellBack: () => reporter.events.emit('cache:stale', subject),
    });
    captureResponse(req, res, { decision, client, fill, listener: this.#listenerFor(key, subject) });
    return 'continue';
  }

  #listenerFor(key: ResponseKey, subject: CacheSubject): CaptureListener {
    const { events } = this.#deps.reporter;
    return {
      stored: (bytes, { part }) => {
        if (part === undefined) {
          this.#parts.wholeStored(key);
          this.#refresher.wholeStored(key.request.id);
        }
        events.emit('cache:stored', { ...subject, bytes });
      },
      skipped: (reason, isWhole) => {
        if (isWhole) this.#parts.wholeSkipped(key);
        if (reason === 'validator') this.#refresher.cannotValidate(key.request.id);
        events.emit('cache:skipped', { ...subject, reason });
      },
      failed: (error) => this.#deps.caches.responses.reportFailure(error),
    };
  }
}

function noteFill(req: FillingRequest, key: string): void {
  req[FILLED_KEYS] ??= new Set();
  req[FILLED_KEYS].add(key);
}
