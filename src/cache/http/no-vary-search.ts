import type { OutgoingHttpHeaders } from 'node:http';
import type { BareItem, InnerList, Item } from 'structured-headers';
import { fieldDictionary, fieldText } from '../../http/message/structured-field.ts';
import {
  differsForParser,
  hasTooManyParameters,
  parameterName,
  type QueryFilter,
  rootName,
} from './counted-url.ts';

/* No-Vary-Search (draft-ietf-httpbis-no-vary-search-10): a response declares which parameters of its query do not matter. */

/** The parameters of a query that count, as a response declares them. */
export interface SearchRule {
  /** Equal for equivalent rules. */
  readonly id: string;
  /** Whether the order of parameters with different names counts. */
  readonly isOrdered: boolean;
  readonly params: QueryFilter;
}

/** Longer rules are ignored, since they would take too much memory. */
const MAX_RULE_LENGTH = 4_000;

/** The rule that the headers of a response declare; undefined if the whole query counts (sections 5.1 and 5.2 of the draft). */
export function searchRule({ 'no-vary-search': field }: OutgoingHttpHeaders): SearchRule | undefined {
  if (field === undefined) return undefined;
  const members = fieldDictionary(fieldText(field));
  const order = members?.get('key-order')?.[0] ?? false;
  const [params, except] = [members?.get('params'), members?.get('except')];
  if (typeof order !== 'boolean' || (params !== undefined && except !== undefined)) return undefined;
  const names = namesIn(except ?? params);
  if (names === undefined || (except === undefined && names.length === 0 && !order)) return undefined;
  const id = JSON.stringify([order ? 1 : 0, except === undefined ? 'params' : 'except', ...names]);
  if (id.length > MAX_RULE_LENGTH) return undefined;
  const counted =
    except === undefined ? { ignore: new Set(names) } : { only: new Set([...names, ...names.map(rootName)]) };
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

/** Names are encoded like in a query, and decoded as leniently (section 5.3 of the draft). */
function decodedName(text: string): string {
  const bytes = text
    .replaceAll('+', ' ')
    .replace(/%([\da-f]{2})/gi, (_, code) => String.fromCharCode(Number.parseInt(code, 16)));
  return Buffer.from(bytes, 'latin1').toString();
}

/** A parameter as it was sent, its decoded name, and the parameter into which an app's parser puts it. */
interface Parameter {
  readonly text: string;
  readonly name: string;
  readonly root: string;
}

/**
 * A URL with the parameters that count by a rule, in their spelling (section 6 of the draft, without equivalent spellings).
 * Undefined if the app may read other values from the whole query: such a request could poison the response of another URL.
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
  if (differsForParser(app, { search, kept, filter: rule.params, isOrdered: rule.isOrdered }))
    return undefined;
  return kept === '' ? path : `${path}?${kept}`;
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

/** Parsers for nested parameters join the parameters of one root, so these count together. */
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
