import type { IncomingMessage } from 'node:http';
import { originalUrl } from '../../http/middleware.ts';
import type { KeySettings } from './key-options.ts';

/** Express's parsers stop at so many parameters, without a word. */
const MOST_PARAMETERS = 1_000;

/** The URL with what counts of its query, in the order and the spelling in which it came. */
export function countedUrl(url: string, query: KeySettings['query']): string {
  if (query === true) return url;
  const mark = url.indexOf('?');
  if (mark === -1) return url;
  const path = url.slice(0, mark);
  if (query === false) return path;
  const kept = keptOf(url.slice(mark + 1), query);
  return kept === '' ? path : `${path}?${kept}`;
}

/** The URL without its query, as countedUrl splits it. */
export function pathOf(url: string): string {
  return countedUrl(url, false);
}

type Filter = Exclude<KeySettings['query'], boolean>;

function counts(name: string, query: Filter): boolean {
  return 'only' in query ? query.only.has(name) : !query.ignore.has(name);
}

function keptOf(search: string, query: Filter): string {
  const parts = search.split('&').filter((part) => {
    const name = parameterOf(part);
    return name === undefined || counts(rootOf(name), query);
  });
  return parts.join('&');
}

/** The decoded name of a part of a query. Undefined where parsers do not agree on it, or it cannot be decoded. */
export function parameterOf(part: string): string | undefined {
  const end = part.indexOf('=');
  if (hasBracketAfter(part, end)) return undefined;
  try {
    return decodeURIComponent((end === -1 ? part : part.slice(0, end)).replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}

/** Whether a parser for nested parameters ends the name later, at a bracket with an equals sign: `x=[a]=1` is `x=[a]`. */
function hasBracketAfter(part: string, end: number): boolean {
  if (end === -1 || !/\]=|%5d=/i.test(part)) return false;
  return part.replace(/%5d/gi, ']').lastIndexOf(']=') > part.replace(/%5d/gi, ']').indexOf('=');
}

/**
 * The parameter that an app's parser makes of a name: `page[a]` and `[page]` go into `page`. Taken literally they would
 * reach the app without being in the key.
 */
export function rootOf(name: string): string {
  return /^\[?([^[\]]*)/.exec(name)?.[1] ?? '';
}

/**
 * Whether the app may read the query of a request differently from its key, in which parameters are left out: then one
 * URL would poison the response of another.
 */
export function isReadDifferently(req: IncomingMessage, query: KeySettings['query']): boolean {
  if (typeof query === 'boolean') return false;
  const url = originalUrl(req);
  const mark = url.indexOf('?');
  if (mark === -1) return false;
  const search = url.slice(mark + 1);
  // Parsers end the query at a fragment, which no client should send.
  if (url.includes('#') || hasTooManyParameters(search)) return true;
  return differsForParser(appOf(req), search, keptOf(search, query), query, true);
}

/** The Express app that a request is in at this moment, whose query parser reads it. */
export function appOf(req: IncomingMessage): unknown {
  return (req as { app?: unknown }).app;
}

export function hasTooManyParameters(search: string): boolean {
  let count = 1;
  for (let at = search.indexOf('&'); at !== -1 && count <= MOST_PARAMETERS; at = search.indexOf('&', at + 1))
    count++;
  return count > MOST_PARAMETERS;
}

/** Whether a parser of the app's own, which has limits and a syntax of its own, reads something else in what is kept of a query. */
export function differsForParser(
  app: unknown,
  search: string,
  kept: string,
  query: Filter,
  isOrdered: boolean,
): boolean {
  const parse: unknown = (app as { get?(setting: string): unknown } | undefined)?.get?.('query parser');
  if (typeof parse !== 'function') return false;
  const whole = countedValues(parse, search, query, isOrdered);
  return whole === undefined || whole !== countedValues(parse, kept, query, isOrdered);
}

/** What a parser makes of the parameters that count; undefined when it cannot be told. */
function countedValues(
  parse: unknown,
  search: string,
  query: Filter,
  isOrdered: boolean,
): string | undefined {
  try {
    const parsed: unknown = (parse as (search: string) => unknown)(search);
    const entries = Object.entries(Object(parsed) as Record<string, unknown>);
    const counted = entries.filter(([name]) => counts(name, query));
    return JSON.stringify(isOrdered ? counted : counted.sort(([one], [other]) => (one < other ? -1 : 1)));
  } catch {
    // Express will call it again, and reports what it throws.
    return undefined;
  }
}
