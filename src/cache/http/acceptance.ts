import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { type CacheControl, parseCacheControl } from '../../http/message/cache-control.ts';
import type { Entry } from '../store/entry.ts';
import type { CachedResponse } from './cached-response.ts';
import type { CacheSettings } from './options.ts';

const SECOND = 1_000;

type Request = Pick<IncomingMessage, 'headers'>;

/** The Cache-Control of a request (RFC 9111, section 5.2.1). */
export interface RequestDirectives {
  /** Neither the request nor its response may be stored. */
  readonly noStore: boolean;
  /** The handler must run, whatever is stored. */
  readonly noCache: boolean;
  /** The client wants a 504 rather than a run of the handler. */
  readonly onlyIfCached: boolean;
  accepts(entry: Entry<unknown>, now: number): boolean;
}

/** Decides whether a stored response may answer a request, apart from the selection by its key and Vary. */
export class Acceptance {
  readonly #settings: Pick<CacheSettings, 'key' | 'honorsDirectives'>;
  readonly #now: () => number;

  constructor(settings: Pick<CacheSettings, 'key' | 'honorsDirectives'>, now: () => number) {
    this.#settings = settings;
    this.#now = now;
  }

  /** Undefined if the request has none, or the cache ignores them. */
  directivesOf({ headers }: Request): RequestDirectives | undefined {
    return this.#settings.honorsDirectives ? requestDirectives(headers) : undefined;
  }

  accepts(req: Request, entry: Entry<CachedResponse>): boolean {
    if (!this.mayAnswer(req, entry.content)) return false;
    return this.directivesOf(req)?.accepts(entry, this.#now()) ?? true;
  }

  /** RFC 9111, section 3.5. */
  mayAnswer(req: Request, { isForAll }: CachedResponse): boolean {
    return isForAll || !this.hasOwnCredentials(req);
  }

  /** Whether a request has credentials that are not part of the key. */
  hasOwnCredentials({ headers }: Request): boolean {
    return headers.authorization !== undefined && !this.#settings.key.headers.includes('authorization');
  }
}

/** Undefined for a request without Cache-Control. */
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

/** How stale a response may be: with max-age not at all, unless max-stale allows it (RFC 9111, section 5.2.1.1). */
function maxStaleMs(control: CacheControl): number {
  const seconds = control.seconds('max-stale');
  if (typeof seconds === 'number') return seconds * SECOND;
  // A max-stale without a value accepts any staleness; then only the windows of the response limit it.
  return control.has('max-age') && !control.has('max-stale') ? 0 : Number.POSITIVE_INFINITY;
}
