import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import type { BareItem, InnerList, Item } from 'structured-headers';
import { fieldDictionary, fieldText } from '../../http/message/structured-field.ts';
import { originalUrl } from '../../http/middleware.ts';
import type { KeySettings } from './key-options.ts';

/** The most parameters that Express's parsers read; further ones are silently ignored. */
const MAX_PARAMETERS = 1_000;

/** The parameters of a query that select a response: only these, or all but the ignored ones. */
type QueryFilter = Exclude<KeySettings['query'], boolean>;

/** The URL with the parameters that the option `key.query` keeps, in their order and spelling. */
export function countedUrl(url: string, query: KeySettings['query']): string {
  if (query === true) return url;
  const [path, search] = splitUrl(url);
  return search === undefined || query === false ? path : joinUrl(path, countedSearch(search, query));
}

/** The URL without its query. */
export function pathOf(url: string): string {
  return splitUrl(url)[0];
}

function splitUrl(url: string): readonly [path: string, search: string | undefined] {
  const mark = url.indexOf('?');
  return mark === -1 ? [url, undefined] : [url.slice(0, mark), url.slice(mark + 1)];
}

function joinUrl(path: string, search: string): string {
  return search === '' ? path : `${path}?${search}`;
}

function counts(name: string, filter: QueryFilter): boolean {
  return 'only' in filter ? filter.only.has(name) : !filter.ignore.has(name);
}

function countedSearch(search: string, filter: QueryFilter): string {
  const parts = search.split('&').filter((part) => {
    const name = parameterName(part);
    return name === undefined || counts(rootName(name), filter);
  });
  return parts.join('&');
}

/** The decoded name of one parameter of a query; undefined if parsers disagree on the name or it cannot be decoded. */
function parameterName(part: string): string | undefined {
  const end = part.indexOf('=');
  if (hasBracketAfter(part, end)) return undefined;
  try {
    return decodeURIComponent((end === -1 ? part : part.slice(0, end)).replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}

/** Whether a parser for nested parameters ends the name at a bracket after the first `=`: at `x=[a]` in `x=[a]=1`. */
function hasBracketAfter(part: string, end: number): boolean {
  if (end === -1 || !/\]=|%5d=/i.test(part)) return false;
  const decoded = part.replace(/%5d/gi, ']');
  return decoded.lastIndexOf(']=') > decoded.indexOf('=');
}

/**
 * The parameter into which an app's parser puts a name: `page[a]` and `[page]` become members of `page`. If names were
 * taken literally, such a value would reach the app without being in the key.
 */
function rootName(name: string): string {
  return /^\[?([^[\]]*)/.exec(name)?.[1] ?? '';
}

/** Whether the app may read query values that are not in the key and could poison the response of another URL. */
export function isReadDifferently(req: IncomingMessage, query: KeySettings['query']): boolean {
  if (typeof query === 'boolean') return false;
  const url = originalUrl(req);
  const [, search] = splitUrl(url);
  if (search === undefined) return false;
  // Parsers end the query at a fragment, which no client should send.
  if (url.includes('#') || hasTooManyParameters(search)) return true;
  const rule = { params: query, isOrdered: true };
  return differsForParser(appOf(req), rule, search, countedSearch(search, query));
}

/** The Express app that handles the request at this moment. Its parser reads the query. */
export function appOf(req: IncomingMessage): unknown {
  return (req as { app?: unknown }).app;
}

function hasTooManyParameters(search: string): boolean {
  let count = 1;
  for (let at = search.indexOf('&'); at !== -1 && count <= MAX_PARAMETERS; at = search.indexOf('&', at + 1))
    count++;
  return count > MAX_PARAMETERS;
}

type CountingRule = Pick<SearchRule, 'params' | 'isOrdered'>;

/** Whether the app's parser, with its limits and syntax, reads other values from the whole query than from `kept`. */
function differsForParser(app: unknown, rule: CountingRule, search: string, kept: string): boolean {
  const parse: unknown = (app as { get?(setting: string): unknown } | undefined)?.get?.('query parser');
  if (typeof parse !== 'function') return false;
  const whole = countedValues(parse, rule, search);
  return whole === undefined || whole !== countedValues(parse, rule, kept);
}

/** The parsed values of the parameters that select a response; undefined if the parser fails. */
function countedValues(
  parse: unknown,
  { params, isOrdered }: CountingRule,
  search: string,
): string | undefined {
  try {
    const parsed: unknown = (parse as (search: string) => unknown)(search);
    const entries = Object.entries(Object(parsed) as Record<string, unknown>);
    const counted = entries.filter(([name]) => counts(name, params));
    return JSON.stringify(isOrdered ? counted : counted.sort(([one], [other]) => compare(one, other)));
  } catch {
    // Express calls the same parser, and reports its error.
    return undefined;
  }
}

/*
 * No-Vary-Search (draft-ietf-httpbis-no-vary-search-10): a response declares which parameters of the query do not
 * select it.
 */

/** The parameters of a query that select a response, as the response declares by No-Vary-Search. */
export interface SearchRule {
  /** An id that is equal for equivalent rules. */
  readonly id: string;
  /** Whether two queries differ by the order of parameters with different names. */
  readonly isOrdered: boolean;
  readonly params: QueryFilter;
}

/** The longest id of a rule. A longer rule is ignored, since it would take too much memory. */
const MAX_RULE_LENGTH = 4_000;

/**
 * The rule of a response (No-Vary-Search, sections 5.1 and 5.2); undefined if the whole query selects the response.
 * `params` without a list is the form of earlier drafts, which browsers implement: only the parameters in `except`
 * select the response.
 */
export function searchRule({ 'no-vary-search': field }: OutgoingHttpHeaders): SearchRule | undefined {
  if (field === undefined) return undefined;
  const members = fieldDictionary(fieldText(field));
  const order = members?.get('key-order')?.[0] ?? false;
  const [params, except] = [members?.get('params'), members?.get('except')];
  const omitsAll = params?.[0] === true;
  if (typeof order !== 'boolean' || (params !== undefined && except !== undefined && !omitsAll)) {
    return undefined;
  }
  const isExcept = omitsAll || except !== undefined;
  const names = namesIn(isExcept ? except : params);
  if (names === undefined || (!isExcept && names.length === 0 && !order)) return undefined;
  const id = JSON.stringify([order ? 1 : 0, isExcept ? 'except' : 'params', ...names]);
  if (id.length > MAX_RULE_LENGTH) return undefined;
  const counted = isExcept
    ? { only: new Set([...names, ...names.map(rootName)]) }
    : { ignore: new Set(names) };
  return { id, isOrdered: !order, params: counted };
}

/** The sorted names of a List of Strings; undefined for any other value. */
function namesIn(member: Item | InnerList | undefined): readonly string[] | undefined {
  const items: BareItem | readonly Item[] = member?.[0] ?? [];
  if (!Array.isArray(items)) return undefined;
  const names = items.map(([item]) => item);
  return names.every((name) => typeof name === 'string')
    ? [...new Set(names.map(decodedName))].sort()
    : undefined;
}

/** Decodes a name in a rule as leniently as parsers decode a name in a query (No-Vary-Search, section 5.3). */
function decodedName(text: string): string {
  const bytes = text
    .replaceAll('+', ' ')
    .replace(/%([\da-f]{2})/gi, (_, code) => String.fromCharCode(Number.parseInt(code, 16)));
  return Buffer.from(bytes, 'latin1').toString();
}

/** A query parameter: the text as sent, the decoded name, and the parameter into which an app's parser puts it. */
interface Parameter {
  readonly text: string;
  readonly name: string;
  readonly root: string;
}

/**
 * A URL with the parameters that select a response under a rule, in their spelling (No-Vary-Search, section 6, but
 * different spellings are never equivalent). Undefined if the app may read other values from the whole query: such a
 * request could poison the response of another URL.
 */
export function urlUnder(rule: SearchRule, url: string, app: unknown): string | undefined {
  // Parsers end the query at a fragment, which no client should send.
  if (url.includes('#')) return undefined;
  const [path, search] = splitUrl(url);
  if (search === undefined) return url;
  if (hasTooManyParameters(search)) return undefined;
  const parameters = parametersIn(search);
  if (parameters === undefined) return undefined;
  const counted = countedOf(parameters, rule);
  if (!rule.isOrdered) counted.sort((one, other) => compare(one.root, other.root));
  const kept = counted.map(({ text }) => text).join('&');
  return differsForParser(app, rule, search, kept) ? undefined : joinUrl(path, kept);
}

function parametersIn(search: string): readonly Parameter[] | undefined {
  const parameters: Parameter[] = [];
  for (const text of search.split('&')) {
    if (text === '') continue;
    const name = parameterName(text);
    if (name === undefined) return undefined;
    parameters.push({ text, name, root: rootName(name) });
  }
  return parameters;
}

/** The parameters that select a response. Those of one root are kept or omitted together, since parsers join them. */
function countedOf(parameters: readonly Parameter[], { params }: SearchRule): Parameter[] {
  if ('only' in params) {
    return parameters.filter(({ name, root }) => params.only.has(name) || params.only.has(root));
  }
  const roots = new Set(parameters.filter(({ name }) => !params.ignore.has(name)).map(({ root }) => root));
  return parameters.filter(({ root }) => roots.has(root));
}

function compare(one: string, other: string): number {
  if (one === other) return 0;
  return one < other ? -1 : 1;
}
