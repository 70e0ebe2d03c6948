import type { IncomingHttpHeaders } from 'node:http';
import { type CacheControl, parseCacheControl } from '../../http/message/cache-control.ts';
import type { Entry } from '../store/entry.ts';

const SECOND = 1_000;

/** What a client says of the caches on the way (RFC 9111, section 5.2.1), where that is honored. */
export interface RequestDirectives {
  /** Nothing is to be stored of this exchange. */
  readonly noStore: boolean;
  /** The handler is to be asked, whatever is stored. */
  readonly noCache: boolean;
  /** 504 rather than to ask the handler. */
  readonly onlyIfCached: boolean;
  accepts(entry: Entry<unknown>, now: number): boolean;
}

/** Undefined where the client says nothing. */
export function requestDirectives(headers: IncomingHttpHeaders): RequestDirectives | undefined {
  const field = headers['cache-control'];
  if (field === undefined) return undefined;
  const control = parseCacheControl(field);
  const ms = (name: string) => {
    const seconds = control.seconds(name);
    return typeof seconds === 'number' ? seconds * SECOND : undefined;
  };
  const maxAge = ms('max-age') ?? Number.POSITIVE_INFINITY;
  const leastLeft = Math.max(ms('min-fresh') ?? Number.NEGATIVE_INFINITY, -mostStale(control));
  const noStore = control.has('no-store');
  const noCache = control.has('no-cache');
  return {
    noStore,
    noCache,
    onlyIfCached: control.has('only-if-cached'),
    accepts(entry, now) {
      if (noStore || noCache) return false;
      const ageMs = entry.lifetime.ageMs + now - entry.storedAt;
      return ageMs <= maxAge && entry.freshUntil - now >= leastLeft;
    },
  };
}

/** For how many milliseconds a response may be stale: with max-age not at all unless max-stale says so (RFC 9111, section 5.2.1.1). */
function mostStale(control: CacheControl): number {
  const seconds = control.seconds('max-stale');
  if (typeof seconds === 'number') return seconds * SECOND;
  // Without a value it means any; then what the response allows is what counts.
  return control.has('max-age') && !control.has('max-stale') ? 0 : Number.POSITIVE_INFINITY;
}
