import type { OutgoingHttpHeaders } from 'node:http';
import type { BareItem, InnerList, Item } from 'structured-headers';
import { fieldDictionary, fieldText } from '../../http/message/structured-field.ts';
import { differsForParser, hasTooManyParameters, parameterOf, rootOf } from './counted-url.ts';

/* No-Vary-Search, draft-ietf-httpbis-no-vary-search-10: a response declares which part of the query does not matter. */

/** Which part of the query of a URL counts, as a response declares it. */
export interface SearchRule {
  /** The same for rules that mean the same. */
  readonly id: string;
  /** Whether the order of the parameters counts, apart from those of one name. */
  readonly isOrdered: boolean;
  /** All parameters but these count, or these alone. */
  readonly params: { readonly ignore: ReadonlySet<string> } | { readonly only: ReadonlySet<string> };
}

/** A longer rule is not worth its place in memory. */
const MAX_RULE_LENGTH = 4_000;

/**
 * The rule in the headers of a response; undefined where all of the query counts (sections 5.1 and 5.2 of the draft).
 * `params` without a list is the form of earlier drafts, which browsers implement: no parameter counts but those in
 * `except`.
 */
export function searchRule({ 'no-vary-search': field }: OutgoingHttpHeaders): SearchRule | undefined {
  if (field === undefined) return undefined;
  const members = fieldDictionary(fieldText(field));
  const order = members?.get('key-order')?.[0] ?? false;
  const [params, except] = [members?.get('params'), members?.get('except')];
  const isOfAll = params?.[0] === true;
  if (typeof order !== 'boolean' || (params !== undefined && except !== undefined && !isOfAll)) {
    return undefined;
  }
  const names = namesIn(isOfAll ? except : (except ?? params));
  const hasOnly = isOfAll || except !== undefined;
  if (names === undefined || (!hasOnly && names.length === 0 && !order)) return undefined;
  const id = JSON.stringify([order ? 1 : 0, hasOnly ? 'except' : 'params', ...names]);
  if (id.length > MAX_RULE_LENGTH) return undefined;
  const counted = hasOnly ? { only: new Set([...names, ...names.map(rootOf)]) } : { ignore: new Set(names) };
  return { id, isOrdered: !order, params: counted };
}

/** Sorted names; undefined for what is no list of strings. */
function namesIn(member: Item | InnerList | undefined): readonly string[] | undefined {
  const items: BareItem | readonly Item[] = member?.[0] ?? [];
  if (!Array.isArray(items)) return undefined;
  const names = items.map(([item]) => item);
  return names.every((name) => typeof name === 'string')
    ? [...new Set(names.map(decodedKey))].sort()
    : undefined;
}

/** Section 5.3 of the draft: names are written as in a query, and decoded as leniently. */
function decodedKey(text: string): string {
  const bytes = text
    .replaceAll('+', ' ')
    .replace(/%([\da-f]{2})/gi, (_, code) => String.fromCharCode(Number.parseInt(code, 16)));
  return Buffer.from(bytes, 'latin1').toString();
}

/** A parameter as it was sent, its decoded name, and the parameter that an app's parser makes of it. */
interface Parameter {
  readonly text: string;
  readonly name: string;
  readonly root: string;
}

/**
 * A URL with what counts of its query by a rule, in the spelling in which it came (section 6 of the draft, without the
 * equivalent spellings). Undefined where the app may read something else in the whole query: such a URL is left as it is,
 * or it would poison the response of another.
 */
export function urlUnder(rule: SearchRule, url: string, app: unknown): string | undefined {
  // Parsers end the query at a fragment, which no client should send.
  if (url.includes('#')) return undefined;
  const mark = url.indexOf('?');
  if (mark === -1) return url;
  const [path, search] = [url.slice(0, mark), url.slice(mark + 1)];
  if (hasTooManyParameters(search)) return undefined;
  const parameters = parametersIn(search);
  if (parameters === undefined) return undefined;
  const counted = countedOf(parameters, rule);
  if (!rule.isOrdered) counted.sort((one, other) => compare(one.root, other.root));
  const kept = counted.map(({ text }) => text).join('&');
  if (differsForParser(app, search, kept, rule.params, rule.isOrdered)) return undefined;
  return kept === '' ? path : `${path}?${kept}`;
}

function parametersIn(search: string): readonly Parameter[] | undefined {
  const parameters: Parameter[] = [];
  for (const text of search.split('&')) {
    if (text === '') continue;
    const name = parameterOf(text);
    if (name === undefined) return undefined;
    parameters.push({ text, name, root: rootOf(name) });
  }
  return parameters;
}

/** Parsers for nested parameters join those of one root, so that these count together. */
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
