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

type Filter = Exclude<KeySettings['query'], boolean>;

function counts(name: string, query: Filter): boolean {
  return 'only' in query ? query.only.has(name) : !query.ignore.has(name);
}

function keptOf(search: string, query: Filter): string {
  const parts = search.split('&').filter((part) => {
    const name = parameterName(part);
    return name === undefined || counts(name, query);
  });
  return parts.join('&');
}

/**
 * The parameter that an app's parser makes of a part: `%70age=1` is `page`, and `page[a]=1` and `[page]=1` go into it.
 * Taken literally they would reach the app without being in the key. Undefined for what cannot be decoded.
 */
function parameterName(part: string): string | undefined {
  const end = part.indexOf('=');
  try {
    const name = decodeURIComponent((end === -1 ? part : part.slice(0, end)).replaceAll('+', ' '));
    return /^\[?([^[\]]*)/.exec(name)?.[1];
  } catch {
    return undefined;
  }
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
  if (hasTooMany(search)) return true;
  const { app } = req as { app?: { get?(setting: string): unknown } };
  const parse: unknown = app?.get?.('query parser');
  if (typeof parse !== 'function') return false;
  // A parser of the app's own has limits and a syntax of its own.
  const whole = countedValues(parse, search, query);
  return whole === undefined || whole !== countedValues(parse, keptOf(search, query), query);
}

function hasTooMany(search: string): boolean {
  let count = 1;
  for (let at = search.indexOf('&'); at !== -1 && count <= MOST_PARAMETERS; at = search.indexOf('&', at + 1))
    count++;
  return count > MOST_PARAMETERS;
}

/** What a parser makes of the parameters that count; undefined when it cannot be told. */
function countedValues(parse: unknown, search: string, query: Filter): string | undefined {
  try {
    const parsed: unknown = (parse as (search: string) => unknown)(search);
    const entries = Object.entries(Object(parsed) as Record<string, unknown>);
    return JSON.stringify(entries.filter(([name]) => counts(name, query)));
  } catch {
    // Express will call it again, and reports what it throws.
    return undefined;
  }
}
