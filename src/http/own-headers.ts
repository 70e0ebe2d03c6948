import { type OutgoingHttpHeaders, validateHeaderName, validateHeaderValue } from 'node:http';

/** A header of a response that is kept: its name as it was spelled, and its value, or one for each line. */
export type Header = readonly [name: string, value: string | readonly string[]];

/** They describe one connection, not the response (RFC 9110, section 7.6.1; RFC 9111, section 3.1). */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** The headers of one moment as texts: a list is changed in place when another value is appended to it. */
export function headerTexts(headers: OutgoingHttpHeaders): ReadonlyMap<string, string> {
  return new Map(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}

/**
 * The headers that belong to a response itself: those that were added or changed below the middleware that keeps it,
 * `outer` being what was there before. A request id or a limit's fields are for one client only and will be there again.
 * `spelled` has the names as they were written; what `isLeftOut` says of a name in lower case is not kept.
 */
export function ownHeaders(
  headers: OutgoingHttpHeaders,
  spelled: readonly string[],
  outer: ReadonlyMap<string, string>,
  isLeftOut: (name: string) => boolean,
): Header[] {
  const own: Header[] = [];
  const connection = namedBy(headers.connection);
  for (const spelling of spelled) {
    const name = spelling.toLowerCase();
    const value = headers[name];
    if (value === undefined || String(value) === outer.get(name)) continue;
    if (HOP_BY_HOP.has(name) || connection.has(name) || isLeftOut(name)) continue;
    own.push([spelling, Array.isArray(value) ? value.map(String) : String(value)]);
  }
  return own;
}

/** Connection names further fields of this one connection. */
function namedBy(connection: OutgoingHttpHeaders[string]): ReadonlySet<string> {
  const names = connection === undefined ? [] : String(connection).split(',');
  return new Set(names.map((name) => name.trim().toLowerCase()));
}

/** Names and values in turn, as `writeHead` takes them fastest. */
export function flatHeaders(headers: readonly Header[]): (string | string[])[] {
  return headers.flatMap(([name, value]) => [name, typeof value === 'string' ? value : [...value]]);
}

/** Whether what was read back may be sent: Node would refuse it when the answer has begun. */
export function areHeaders(value: unknown): value is Header[] {
  try {
    return Array.isArray(value) && value.every(isHeader);
  } catch {
    return false;
  }
}

function isHeader(pair: unknown): boolean {
  if (!Array.isArray(pair) || pair.length !== 2 || typeof pair[0] !== 'string') return false;
  const [name, value] = pair as [string, unknown];
  validateHeaderName(name);
  if (typeof value !== 'string') {
    return Array.isArray(value) && value.every((line) => typeof line === 'string' && isHeader([name, line]));
  }
  validateHeaderValue(name, value);
  return true;
}
