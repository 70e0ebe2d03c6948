import type { IncomingHttpHeaders } from 'node:http';
import { parseCacheControl } from '../http/cache-control.ts';
import type { Entry } from './entry.ts';

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
  const maxAge = ms('max-age');
  const minFresh = ms('min-fresh');
  return {
    noStore: control.has('no-store'),
    noCache: control.has('no-cache'),
    onlyIfCached: control.has('only-if-cached'),
    accepts(entry, now) {
      const ageMs = entry.lifetime.ageMs + now - entry.storedAt;
      const leftMs = entry.freshUntil - now;
      return (
        ageMs <= (maxAge ?? Number.POSITIVE_INFINITY) && leftMs >= (minFresh ?? Number.NEGATIVE_INFINITY)
      );
    },
  };
}
