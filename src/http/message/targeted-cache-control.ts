import { type CacheControl, fieldNames, MAX_SECONDS } from './cache-control.ts';
import { trimWhitespace } from './optional-whitespace.ts';
import { fieldDictionary, fieldText } from './structured-field.ts';

/** Directives that allow a cache to store or reuse more. They are obeyed only as a Boolean, which is their type. */
const RELAXING: ReadonlySet<string> = new Set(['public', 'must-understand']);

/**
 * Parses a targeted field such as CDN-Cache-Control, which is a Dictionary of structured fields (RFC 9213, section
 * 2.1). Undefined if the field is absent, empty or invalid, so that the cache ignores the field.
 *
 * Values of the wrong type are not used: an age that is no Integer is 'invalid', and a value that is no String names no
 * fields. A restrictive directive is obeyed with any value except a Boolean false. Parameters are ignored.
 */
export function parseTargeted(
  value: number | string | readonly string[] | undefined,
): CacheControl | undefined {
  const text = fieldText(value);
  const directives = fieldDictionary(text);
  if (directives === undefined || directives.size === 0) return undefined;

  const argument = (name: string) => directives.get(name)?.[0];
  const has = (name: string) => {
    const given = argument(name);
    return RELAXING.has(name) ? given === true : given !== undefined && given !== false;
  };

  return {
    has,
    seconds(name) {
      const given = argument(name);
      if (given === undefined) return undefined;
      const isAge = typeof given === 'number' && given >= 0 && !isDecimal(text, name);
      // `Math.abs` converts -0, which is a valid Integer, to 0.
      return isAge ? Math.min(Math.abs(given), MAX_SECONDS) : 'invalid';
    },
    fields(name) {
      if (!has(name)) return undefined;
      const given = argument(name);
      return typeof given === 'string' ? [...new Set(fieldNames(given))] : [];
    },
  };
}

/**
 * Whether a directive's number is a Decimal. The parser does not distinguish `1.0` from the Integer 1. A Decimal
 * max-age must not be used (RFC 9213, section 2.1). `text` must be a valid field.
 */
function isDecimal(text: string, name: string): boolean {
  const members = text.replace(/%"[^"]*"|"(?:[^"\\]|\\.)*"/g, '').split(',');
  const own = members.filter((member) => trimWhitespace(member).split(/[=;]/, 1)[0] === name).at(-1);
  return /=-?\d+\./.test(own?.split(';', 1)[0] ?? '');
}
