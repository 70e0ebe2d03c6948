import {
  type OutgoingHttpHeaders,
  type ServerResponse,
  validateHeaderName,
  validateHeaderValue,
} from 'node:http';
import { isPerRequestField } from '../message/per-request-fields.ts';
import { watchHeaders } from './header-changes.ts';
import { spelledNames } from './response-head.ts';

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

/** What a handler did to the headers of its response. */
export interface HandlerHeaders {
  readonly set: readonly Header[];
  /** Names, in lower case, of headers that were there before the handler ran and that it took off. */
  readonly removed: readonly string[];
}

/**
 * Watches what is done to the headers of a response below the middleware that stores it; the function that it returns says
 * what that was, by then. Headers that a middleware above set are not part of it: it sets them on each response. Fields of
 * the connection and of one request's handling are left out, and so is what `isLeftOut` names in lower case.
 */
export function watchHandlerHeaders(
  res: ServerResponse,
  isLeftOut: (name: string) => boolean,
): () => HandlerHeaders {
  const outer = new Map(Object.entries(res.getHeaders()).map(([name, value]) => [name, String(value)]));
  const hasChanged = watchHeaders(res);
  return function ownHeaders() {
    const headers = res.getHeaders();
    const connection = namedBy(headers.connection);
    const isOfConnection = (name: string) => HOP_BY_HOP.has(name) || connection.has(name);
    const set: Header[] = [];
    for (const spelling of spelledNames(res)) {
      const name = spelling.toLowerCase();
      const value = headers[name];
      // A list that was read may have been changed in place.
      if (value === undefined || !(hasChanged(name) || String(value) !== outer.get(name))) continue;
      if (isOfConnection(name) || isLeftOut(name) || isPerRequestField(name, res.statusCode)) continue;
      set.push([spelling, Array.isArray(value) ? value.map(String) : String(value)]);
    }
    const removed = [...outer.keys()].filter((name) => headers[name] === undefined && !isOfConnection(name));
    return { set, removed };
  };
}

/** Takes off what the handler took off, so that a middleware above that set it again does not undo that. */
export function removeHeaders(res: ServerResponse, names: readonly string[]): void {
  for (const name of names) res.removeHeader(name);
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

/** Whether what was read back names headers that can be removed. */
export function areNames(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((name) => typeof name === 'string');
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
