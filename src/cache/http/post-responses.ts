import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError } from '../../base/errors.ts';
import { originalUrl } from '../../http/middleware.ts';
import type { Caches } from '../caches.ts';
import { captureResponse, type ResponseFill } from './capture.ts';
import { ClientResponse } from './client-response.ts';
import { NO_CONDITIONS } from './conditions.ts';
import { lifetimeOf } from './freshness.ts';
import { offerControls } from './handler-controls.ts';
import type { CacheSettings } from './options.ts';
import { requestKey } from './request-key.ts';
import type { ResponderDeps } from './responder.ts';
import { ResponsePlace } from './response-place.ts';
import type { HandlerHead } from './storable.ts';
import { type HandlerRun, StorageDecision } from './storage-decision.ts';
import { type Invalidation, sameHostUrl } from './unsafe.ts';
import { VaryMemory } from './vary.ts';

/** A POST has no stored response to fall back on, and its conditions are left to the handler. */
const RUN: HandlerRun = {
  fallback: undefined,
  validation: undefined,
  part: undefined,
  conditions: NO_CONDITIONS,
  isRefresh: false,
};

/** Only the response itself sets its lifetime. */
const OWN_LIFETIME = {
  ttl: undefined,
  staleWhileRevalidate: undefined,
  staleIfError: undefined,
  jitter: 0,
  heuristics: false,
};

/**
 * Stores the responses to POST requests that are the representation of their URL: later GET and HEAD requests are answered
 * with them (RFC 9110, section 9.3.3).
 */
export class PostResponses {
  readonly #settings: CacheSettings;
  readonly #caches: Caches;
  readonly #deps: ResponderDeps;
  readonly #vary = new VaryMemory();

  constructor(settings: CacheSettings, caches: Caches, deps: ResponderDeps) {
    // The field is about the answer to a GET.
    this.#settings = { ...settings, cacheStatus: undefined };
    this.#caches = caches;
    this.#deps = deps;
  }

  /** `change` is the invalidation by the same response, which comes first. */
  capture(req: IncomingMessage, res: ServerResponse, change: Invalidation): void {
    const { custom, session } = this.#settings.key;
    // Functions that are written for GET requests.
    if (req.method !== 'POST' || custom !== undefined || session !== undefined) return;
    const { sequence } = this.#caches.versions;
    const key = sequence === undefined ? undefined : requestKey(req, this.#settings.key);
    if (sequence === undefined || key === undefined) return;
    const { keys, reporter } = this.#deps;
    const { responses } = this.#caches;
    const requestedAt = Date.now();
    const settings = this.#settings;
    const fill = this.#fill(new ResponsePlace(req, key, this.#vary, keys), sequence, change);
    const decision = new StorageDecision(req, res, RUN, {
      settings,
      keys,
      controls: offerControls(req),
      reasonNotToStore: (head) => (isRepresentation(req, head, requestedAt) ? undefined : 'method'),
    });
    const client = new ClientResponse(res, RUN, {
      settings,
      key: key.id,
      forwarded: 'fwd=method',
      now: () => responses.now(),
      fellBack: () => undefined,
    });
    const listener = {
      stored: (bytes: number) => reporter.events.emit('cache:stored', { url: key.url, bytes }),
      // Hardly any response to a POST can be stored, so the event would carry no information.
      skipped: () => undefined,
      failed: (error: unknown) => void reporter.failure('cache', asError(error)),
    };
    captureResponse(req, res, { decision, client, fill, listener });
  }

  /**
   * The response is stored as of its own invalidation, and only where that is the first since the request came: another
   * change may have been made after the handler read what its response says.
   */
  #fill(place: ResponsePlace, sequence: number, change: Invalidation): ResponseFill {
    const { responses } = this.#caches;
    return {
      async store(made) {
        const { done } = change;
        if (done === undefined || done.previous > sequence) return undefined;
        return responses.beginFillAt(done.sequence, place).store(made);
      },
      endAsHitForMiss: () => undefined,
      release: () => undefined,
      abandon: () => undefined,
      fallBackOn: () => false,
    };
  }
}

/** Whether the response to a POST is what a GET of its URL gets, and says how long (RFC 9110, sections 8.7 and 9.3.3). */
function isRepresentation(
  req: IncomingMessage,
  { status, headers, directives, respondedAt }: HandlerHead,
  requestedAt: number,
): boolean {
  // A replay by `kit.idempotency` is as old as the first response.
  if (status !== 200 || headers['idempotent-replayed'] !== undefined) return false;
  const location = headers['content-location'];
  if (typeof location !== 'string' || /^(?!https?:)[a-z][a-z\d+.-]*:/i.test(location)) return false;
  if (sameHostUrl(req, location) !== originalUrl(req)) return false;
  const times = { requestedAt, respondedAt };
  const received = { status, headers, directives, hasValidator: false, ...times };
  return lifetimeOf(received, OWN_LIFETIME, () => 0) !== undefined;
}
