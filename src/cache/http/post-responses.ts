import type { IncomingMessage, ServerResponse } from 'node:http';
import { originalUrl } from '../../http/middleware.ts';
import { captureResponse, type ResponseFill } from './capture.ts';
import { ClientResponse } from './client-response.ts';
import { lifetimeOf } from './freshness.ts';
import { offerControls } from './handler-controls.ts';
import { type Invalidation, sameHostUrl } from './invalidation.ts';
import type { CacheDependencies, CacheSettings } from './options.ts';
import { type ResponseKey, type ResponseMemory, responseKey } from './response-key.ts';
import type { HandlerHead } from './storable.ts';
import { PLAIN_RUN, StorageDecision } from './storage-decision.ts';

/** Rules by which only the response itself sets a lifetime, not the app's options or heuristics. */
const RESPONSE_LIFETIME = {
  ttl: undefined,
  staleWhileRevalidate: undefined,
  staleIfError: undefined,
  jitter: 0,
  heuristics: false,
};

/** Stores each response to a POST that represents its URL, for later GETs and HEADs (RFC 9110, section 9.3.3). */
export class PostResponses {
  readonly #settings: CacheSettings;
  readonly #memory: ResponseMemory;
  readonly #deps: CacheDependencies;

  constructor(settings: CacheSettings, memory: ResponseMemory, deps: CacheDependencies) {
    // No Cache-Status on the response to the POST: the cache only stores it, for later GETs.
    this.#settings = { ...settings, cacheStatus: undefined };
    this.#memory = memory;
    this.#deps = deps;
  }

  /** Captures the response to a POST if it may be stored. It is stored after the `invalidation` of the same request. */
  capture(req: IncomingMessage, res: ServerResponse, invalidation: Invalidation): void {
    const settings = this.#settings;
    const { custom, session } = settings.key;
    // The functions `key` and `key.session` are written for GET requests.
    if (req.method !== 'POST' || custom !== undefined || session !== undefined) return;
    const { keys, reporter, caches } = this.#deps;
    const { sequence } = caches.versions;
    const key = sequence === undefined ? undefined : responseKey(req, settings.key, this.#memory, keys);
    if (sequence === undefined || key === undefined) return;
    const { id, url } = key.request;
    const requestedAt = Date.now();
    const decision = new StorageDecision(req, res, PLAIN_RUN, {
      settings,
      keys,
      controls: offerControls(req),
      reasonNotToStore: (head) => (isRepresentation(req, head, requestedAt) ? undefined : 'method'),
    });
    const client = new ClientResponse(res, PLAIN_RUN, {
      settings,
      key: id,
      forwarded: 'fwd=method',
      now: () => caches.responses.now(),
      fellBack: () => undefined,
    });
    const listener = {
      stored: (bytes: number) => reporter.events.emit('cache:stored', { url, bytes }),
      // No event: nearly all responses to POST requests are skipped.
      skipped: () => undefined,
      failed: (error: unknown) => caches.responses.reportFailure(error),
    };
    captureResponse(req, res, { decision, client, fill: this.#fill(key, sequence, invalidation), listener });
  }

  /**
   * Stores the response under the sequence of its own invalidation, if no other request has invalidated the URL since
   * the POST arrived: the handler may have read data that the other request changed.
   */
  #fill(key: ResponseKey, sequence: number, invalidation: Invalidation): ResponseFill {
    const { responses } = this.#deps.caches;
    return {
      async store(entry) {
        const { purge } = invalidation;
        if (purge === undefined || purge.previous > sequence) return undefined;
        return responses.beginFillAt(purge.sequence, key).store(entry);
      },
      endAsHitForMiss: () => undefined,
      release: () => undefined,
      abandon: () => undefined,
      fallBackOn: () => false,
    };
  }
}

/** Whether the response to a POST represents its URL and sets its lifetime (RFC 9110, sections 8.7 and 9.3.3). */
function isRepresentation(req: IncomingMessage, head: HandlerHead, requestedAt: number): boolean {
  const { status, headers } = head;
  // A replay by `kit.idempotency` may be outdated.
  if (status !== 200 || headers['idempotent-replayed'] !== undefined) return false;
  const location = headers['content-location'];
  if (typeof location !== 'string' || /^(?!https?:)[a-z][a-z\d+.-]*:/i.test(location)) return false;
  if (sameHostUrl(req, location) !== originalUrl(req)) return false;
  return lifetimeOf({ ...head, requestedAt }, RESPONSE_LIFETIME) !== undefined;
}
