import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError } from '../../base/errors.ts';
import { originalUrl } from '../../http/middleware.ts';
import type { Caches } from '../caches.ts';
import { captureResponse } from './capture.ts';
import type { ResponseFill } from './capture-context.ts';
import { NO_CONDITIONS } from './conditions.ts';
import { lifetimeOf } from './freshness.ts';
import { namesToPurgeBy } from './groups.ts';
import { offerControls } from './handler-controls.ts';
import type { MadeHead } from './made.ts';
import type { CacheSettings } from './options.ts';
import { requestKey } from './request-key.ts';
import type { ResponderDeps } from './responder.ts';
import { ResponsePlace } from './response-place.ts';
import { type Invalidation, sameHostUrl } from './unsafe.ts';
import { VaryMemory } from './vary.ts';

/** Only what the response itself says of its lifetime. */
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
    captureResponse(req, res, {
      settings: this.#settings,
      key: key.id,
      fill: this.#fill(new ResponsePlace(req, key, this.#vary, keys), sequence, change),
      fallback: undefined,
      validation: undefined,
      isRefresh: false,
      part: undefined,
      conditions: NO_CONDITIONS,
      controls: offerControls(req),
      now: () => responses.now(),
      forwarded: 'fwd=method',
      reasonNotToStore: (head) => (isRepresentation(req, head, requestedAt) ? undefined : 'method'),
      namesOf: (tags, headers) => namesToPurgeBy(req, { tags, headers }, this.#settings.key, keys),
      fellBack: () => undefined,
      stored: (bytes) => reporter.events.emit('cache:stored', { url: key.url, bytes }),
      wholeSkipped: () => undefined,
      // Hardly any response to a POST can be stored: an event for each of the others says nothing.
      skipped: () => undefined,
      failed: (error) => void reporter.failure('cache', asError(error)),
    });
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
  { status, headers, directives, madeAt }: MadeHead,
  requestedAt: number,
): boolean {
  // A replay by `kit.idempotency` is as old as the first response.
  if (status !== 200 || headers['idempotent-replayed'] !== undefined) return false;
  const location = headers['content-location'];
  if (typeof location !== 'string' || /^(?!https?:)[a-z][a-z\d+.-]*:/i.test(location)) return false;
  if (sameHostUrl(req, location) !== originalUrl(req)) return false;
  const times = { requestedAt, respondedAt: madeAt };
  const received = { status, headers, directives, hasValidator: false, ...times };
  return lifetimeOf(received, OWN_LIFETIME, () => 0) !== undefined;
}
