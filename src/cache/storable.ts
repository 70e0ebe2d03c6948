import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http';
import { type CacheEntry, headerValue } from './entry.ts';

/** They describe one connection, not the response (RFC 9110, section 7.6.1). */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** Why a response is not stored, in the words of the event `cache:skipped`; undefined when it may be. */
export function reasonNotToStore(status: number, headers: OutgoingHttpHeaders): string | undefined {
  if (status !== 200) return 'status';
  if (headers['set-cookie'] !== undefined) return 'set-cookie';
  if (headers['content-range'] !== undefined) return 'partial';
  if (headers.trailer !== undefined) return 'trailer';
  const directives = cacheControl(headers['cache-control']);
  const forbidding = ['no-store', 'private', 'no-cache'].find((directive) => directives.has(directive));
  if (forbidding !== undefined) return forbidding;
  return varyNames(headers).includes('*') ? 'vary' : undefined;
}

/** The names of Cache-Control's directives; a qualified one (`private="x"`) counts as whole, which is stricter. */
function cacheControl(value: OutgoingHttpHeaders[string]): Set<string> {
  const text = Array.isArray(value) ? value.join(',') : String(value ?? '');
  const unquoted = text.replace(/"(?:[^"\\]|\\.)*"?/g, '');
  return new Set(
    unquoted.split(',').map((directive) => (directive.split('=')[0] ?? '').trim().toLowerCase()),
  );
}

function varyNames(headers: OutgoingHttpHeaders): string[] {
  const vary = headers.vary;
  const text = Array.isArray(vary) ? vary.join(',') : String(vary ?? '');
  return [...new Set(text.split(',').map((name) => name.trim().toLowerCase()))]
    .filter((name) => name !== '')
    .sort();
}

export function entryVary(response: OutgoingHttpHeaders, request: IncomingHttpHeaders): CacheEntry['vary'] {
  return varyNames(response).map((name) => [name, headerValue(request, name)] as const);
}

/** The headers of one moment as texts: a list is changed in place when another value is appended to it. */
export function headerTexts(headers: OutgoingHttpHeaders): ReadonlyMap<string, string> {
  return new Map(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}

/**
 * The headers that belong to the response itself: those that were added or changed below the cache. What was there
 * before, a request id or another limit's fields, is for this client only and will be there again. `spelled` has
 * the names as the handler wrote them.
 */
export function entryHeaders(
  headers: OutgoingHttpHeaders,
  outer: ReadonlyMap<string, string>,
  spelled: readonly string[],
): CacheEntry['headers'] {
  const own: [string, string | readonly string[]][] = [];
  for (const spelling of spelled) {
    const name = spelling.toLowerCase();
    const value = headers[name];
    const isOuter = value === undefined || String(value) === outer.get(name);
    if (isOuter || HOP_BY_HOP.has(name) || name === 'content-length') continue;
    own.push([spelling, Array.isArray(value) ? value : String(value)]);
  }
  if (headers.date === undefined) own.push(['Date', new Date().toUTCString()]);
  return own;
}
