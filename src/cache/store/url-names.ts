import type { Keys } from '../../base/keys.ts';
import { pathOf } from '../http/counted-url.ts';

/** The name that is common to the stored responses of a path which answer several URLs by their No-Vary-Search. */
export function nameOfPath(url: string, keys: Keys): string {
  return keys.cacheName('path', pathOf(url));
}

/**
 * By what a URL is invalidated. The process that invalidates may not know which other URLs have a stored response in common
 * with this one, so all responses of the path that answer several URLs are invalidated with it.
 */
export function namesOfUrl(url: string, keys: Keys): readonly string[] {
  return [keys.cacheName('url', url), nameOfPath(url, keys)];
}
