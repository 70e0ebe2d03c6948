import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { trimWhitespace } from '../message/optional-whitespace.ts';
import { isPerRequestField } from '../message/per-request-fields.ts';
import { watchHeaders } from './header-changes.ts';
import { spelledNames } from './response-head.ts';
import type { Header } from './stored-headers.ts';

/** Fields that apply to one connection and not to the response (RFC 9110, section 7.6.1; RFC 9111, section 3.1). */
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

/** The changes that a handler made to the headers of its response. */
export interface HandlerHeaders {
  readonly set: readonly Header[];
  /** Names, in lower case, of headers that were set before the handler ran and that the handler removed. */
  readonly removed: readonly string[];
}

/**
 * Watches the headers of a response from now on, and returns a function that returns the changes so far. Headers that
 * middleware above has set are no changes: middleware sets them on each response. Hop-by-hop fields and per-request
 * fields are excluded, as are names (in lower case) for which `isExcluded` returns true.
 */
export function watchHandlerHeaders(
  res: ServerResponse,
  isExcluded: (name: string) => boolean,
): () => HandlerHeaders {
  const outer = textsOf(res.getHeaders());
  const hasChanged = watchHeaders(res);
  return function handlerHeaders() {
    const headers = res.getHeaders();
    const connection = namedBy(headers.connection);
    const isOfConnection = (name: string) => HOP_BY_HOP.has(name) || connection.has(name);
    const set: Header[] = [];
    for (const spelling of spelledNames(res)) {
      const name = spelling.toLowerCase();
      const value = headers[name];
      // Values are compared as well, since a header whose value is a list can be changed in place.
      if (value === undefined || !(hasChanged(name) || String(value) !== outer[name])) continue;
      if (isOfConnection(name) || isExcluded(name) || isPerRequestField(name, res.statusCode)) continue;
      set.push([spelling, Array.isArray(value) ? value.map(String) : String(value)]);
    }
    const removed = Object.keys(outer).filter((name) => headers[name] === undefined && !isOfConnection(name));
    return { set, removed };
  };
}

/** The headers as text, since a header whose value is a list can be changed in place. */
function textsOf(headers: OutgoingHttpHeaders): Readonly<Record<string, string>> {
  const texts: Record<string, string> = Object.create(null);
  for (const name in headers) texts[name] = String(headers[name]);
  return texts;
}

/** The further hop-by-hop fields that a Connection field names (RFC 9110, section 7.6.1). */
function namedBy(connection: OutgoingHttpHeaders[string]): ReadonlySet<string> {
  const names = connection === undefined ? [] : String(connection).split(',');
  return new Set(names.map((name) => trimWhitespace(name).toLowerCase()));
}
