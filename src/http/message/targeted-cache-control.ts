import { type CacheControl, fieldNames, MAX_SECONDS } from './cache-control.ts';
import { fieldDictionary, fieldText } from './structured-field.ts';

/** They allow a cache more than it may without them, so they count only as what they are, a Boolean. */
const RELAXING: ReadonlySet<string> = new Set(['public', 'must-understand']);

/**
 * Reads a targeted field, such as CDN-Cache-Control, which is a Dictionary of structured fields (RFC 9213, section
 * 2.1). Undefined when it is absent, empty or does not parse: the cache goes on as if it were not there.
 *
 * A value whose type is not the directive's own is not to be consumed: an age that is no Integer is 'invalid', field
 * names that are no String are none. A directive that restricts counts by its name whatever its value is, except a
 * Boolean false, which is how a dictionary says no. Parameters are ignored.
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
      // Not -0, which is an Integer as well.
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
 * Whether the number of a member has a fraction, be it `.0`: the parser makes one number of both, and a max-age that
 * is a Decimal is the very example of what must not be coerced (RFC 9213, section 2.1). The text has parsed.
 */
function isDecimal(text: string, name: string): boolean {
  const members = text.replace(/%"[^"]*"|"(?:[^"\\]|\\.)*"/g, '').split(',');
  const own = members.filter((member) => member.trim().split(/[=;]/, 1)[0] === name).at(-1);
  return /=-?\d+\./.test(own?.split(';', 1)[0] ?? '');
}
