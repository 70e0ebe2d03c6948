import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { type CacheControl, parseCacheControl } from '../../http/message/cache-control.ts';
import type { Entry } from '../store/entry.ts';
import type { CachedResponse } from './cached-response.ts';
import type { CacheSettings } from './options.ts';

const SECOND = 1_000;

type Request = Pick<IncomingMessage, 'headers'>;

/** The directives in the Cache-Control of a request (RFC 9111, section 5.2.1). */
export interface RequestDirectives {
  /** With no-store, the response must not be stored. */
  readonly noStore: boolean;
  /** With no-cache, the handler must run even if a fresh response is stored. */
  readonly noCache: boolean;
  /** With only-if-cached, the client gets a 504 instead of a response of the handler. */
  readonly onlyIfCached: boolean;
  accepts(entry: Entry<unknown>, now: number): boolean;
}

/** Decides whether a stored response may answer a request, after the key and Vary have selected it. */
export class Acceptance {
  readonly #settings: Pick<CacheSettings, 'key' | 'honorsDirectives'>;
  readonly #now: () => number;

  constructor(settings: Pick<CacheSettings, 'key' | 'honorsDirectives'>, now: () => number) {
    this.#settings = settings;
    this.#now = now;
  }

  /** The directives of a request; undefined if it has no Cache-Control, or if the cache ignores request directives. */
  directivesOf({ headers }: Request): RequestDirectives | undefined {
    return this.#settings.honorsDirectives ? requestDirectives(headers) : undefined;
  }

  accepts(req: Request, entry: Entry<CachedResponse>): boolean {
    if (!this.mayAnswer(req, entry.content)) return false;
    return this.directivesOf(req)?.accepts(entry, this.#now()) ?? true;
  }

  /** Whether Authorization in a request allows a stored response (RFC 9111, section 3.5). */
  mayAnswer(req: Request, { isForAll }: CachedResponse): boolean {
    return isForAll || !this.hasOwnCredentials(req);
  }

  /** Whether a request has an Authorization field that is not in its key. */
  hasOwnCredentials({ headers }: Request): boolean {
    return headers.authorization !== undefined && !this.#settings.key.headers.includes('authorization');
  }
}

/** Reads the directives of a request; undefined without Cache-Control. */
export function requestDirectives(headers: IncomingHttpHeaders): RequestDirectives | undefined {
  const field = headers['cache-control'];
  if (field === undefined) return undefined;
  const control = parseCacheControl(field);
  const ms = (name: string) => {
    const seconds = control.seconds(name);
    return typeof seconds === 'number' ? seconds * SECOND : undefined;
  };
  const maxAge = ms('max-age') ?? Number.POSITIVE_INFINITY;
  const minLeft = Math.max(ms('min-fresh') ?? Number.NEGATIVE_INFINITY, -maxStaleMs(control));
  const noStore = control.has('no-store');
  const noCache = control.has('no-cache');
  return {
    noStore,
    noCache,
    onlyIfCached: control.has('only-if-cached'),
    accepts(entry, now) {
      if (noStore || noCache) return false;
      const ageMs = entry.lifetime.ageMs + now - entry.storedAt;
      return ageMs <= maxAge && entry.freshUntil - now >= minLeft;
    },
  };
}

/** The longest accepted staleness. With max-age, only max-stale permits staleness (RFC 9111, section 5.2.1.1). */
function maxStaleMs(control: CacheControl): number {
  const seconds = control.seconds('max-stale');
  if (typeof seconds === 'number') return seconds * SECOND;
  // A max-stale without a value accepts any staleness. Then only the stale windows of the response limit its use.
  return control.has('max-age') && !control.has('max-stale') ? 0 : Number.POSITIVE_INFINITY;
}
