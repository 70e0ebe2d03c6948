import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http';
import { BoundedMap } from '../../base/bounded-map.ts';
import { trimWhitespace } from '../../http/message/optional-whitespace.ts';
import { canonicalWeightedList } from '../../http/message/weighted-list.ts';
import { VARIANT_ID_LENGTH } from '../store/operations/format.ts';

/** Request headers whose members have weights: their values are compared without regard to order and case. */
const WEIGHTED: ReadonlySet<string> = new Set(['accept-encoding', 'accept-language']);

/** The memory for known Vary names. After an eviction, the next read of a varying response costs one more command. */
const VARY_BYTES = 4 * 2 ** 20;

/** The longest list of Vary names. None is longer in practice; the stored format has two bytes for the length. */
const MAX_NAMES_LENGTH = 1_000;

/** The lower-case names in Vary, sorted. `*` means that no other request matches (RFC 9110, section 12.5.5). */
export function varyNames({ vary }: OutgoingHttpHeaders): string {
  if (vary === undefined) return '';
  const text = Array.isArray(vary) ? vary.join(',') : String(vary);
  const names = new Set(text.split(',').map((name) => trimWhitespace(name).toLowerCase()));
  names.delete('');
  const all = [...names].sort().join(',');
  return names.has('*') || all.length > MAX_NAMES_LENGTH ? '*' : all;
}

/** The values of the request headers that Vary names, in a canonical form (RFC 9111, section 4.1). */
export function varyValues(names: string, headers: IncomingHttpHeaders): string {
  const values = names.split(',').map((name) => {
    const value = headers[name];
    const text = Array.isArray(value) ? value.join(',') : value;
    if (text === undefined) return null;
    return WEIGHTED.has(name) ? canonicalWeightedList(text) : canonicalList(text);
  });
  return JSON.stringify(values);
}

/** Removes white space around list members. Matching `\s*,\s*` would take quadratic time in a field full of blanks. */
function canonicalList(text: string): string {
  return text.split(',').map(trimWhitespace).join(',');
}

/** The id of a variant: a hash, since the header values may contain cookies and credentials. */
export function variantId(names: string, headers: IncomingHttpHeaders): string {
  const text = `${names} ${varyValues(names, headers)}`;
  return createHash('sha256').update(text, 'utf16le').digest('base64url').slice(0, VARIANT_ID_LENGTH);
}

/** The request headers by which keys vary, as seen by this process. For an unknown key, those seen last are a guess. */
export class VaryMemory {
  readonly #names = new BoundedMap<string>(VARY_BYTES, (names) => names.length * 2);
  #last = '';

  of(id: string): string {
    // In most apps no response varies, and then no request costs a lookup.
    return this.#last === '' && this.#names.size === 0 ? '' : (this.#names.get(id) ?? this.#last);
  }

  /** Whether this process has seen variants of the key. */
  isKnownToVary(id: string): boolean {
    return (this.#names.peek(id) ?? '') !== '';
  }

  learn(id: string, names: string): void {
    if (names !== '' || this.#names.size > 0) this.#names.set(id, names);
    this.#last = names;
  }
}
