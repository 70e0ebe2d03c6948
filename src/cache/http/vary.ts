import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http';
import { BoundedMap } from '../../base/bounded-map.ts';
import { canonicalWeightedList } from '../../http/message/weighted-list.ts';
import { VARIANT_ID_LENGTH } from '../store/operations/format.ts';

/** Request headers whose members have weights, so that neither their order nor their case selects anything. */
const WEIGHTED: ReadonlySet<string> = new Set(['accept-encoding', 'accept-language']);

/** Beyond these the first look at a response that varies costs a command more. */
const REMEMBERED_BYTES = 4 * 2 ** 20;

/** Nobody varies on more, and the names stand in front of the variants with the length in two bytes. */
const MAX_NAMES_LENGTH = 1_000;

/** The names in Vary, in lower case and sorted; `*` where nothing can be told in advance (RFC 9110, section 12.5.5). */
export function varyNames({ vary }: OutgoingHttpHeaders): string {
  if (vary === undefined) return '';
  const text = Array.isArray(vary) ? vary.join(',') : String(vary);
  const names = new Set(text.split(',').map((name) => name.trim().toLowerCase()));
  names.delete('');
  const all = [...names].sort().join(',');
  return names.has('*') || all.length > MAX_NAMES_LENGTH ? '*' : all;
}

/** The values of a request that a stored response was selected by, in a form in which equal ones are equal (RFC 9111, section 4.1). */
export function varyValues(names: string, headers: IncomingHttpHeaders): string {
  const values = names.split(',').map((name) => {
    const value = headers[name];
    const text = Array.isArray(value) ? value.join(',') : value;
    if (text === undefined) return null;
    return WEIGHTED.has(name) ? canonicalWeightedList(text) : canonicalList(text);
  });
  return JSON.stringify(values);
}

/** Without white space around members. A search for `\s*,\s*` would be quadratic in a field full of blanks. */
function canonicalList(text: string): string {
  return text
    .split(',')
    .map((member) => member.trim())
    .join(',');
}

/** Names a variant. A hash, since cookies and credentials may be in it. */
export function variantId(names: string, headers: IncomingHttpHeaders): string {
  const text = `${names} ${varyValues(names, headers)}`;
  return createHash('sha256').update(text, 'utf16le').digest('base64url').slice(0, VARIANT_ID_LENGTH);
}

/** On what the responses of each key vary, as far as this process knows; for others, what it last saw is the best guess. */
export class VaryMemory {
  readonly #names = new BoundedMap<string>(REMEMBERED_BYTES, (names) => names.length * 2);
  #last = '';

  of(id: string): string {
    // Most apps never vary, and then no request looks anything up.
    return this.#last === '' && this.#names.size === 0 ? '' : (this.#names.get(id) ?? this.#last);
  }

  /** Whether variants of it have been seen here. */
  isKnownToVary(id: string): boolean {
    return (this.#names.peek(id) ?? '') !== '';
  }

  learn(id: string, names: string): void {
    if (names !== '' || this.#names.size > 0) this.#names.set(id, names);
    this.#last = names;
  }
}
