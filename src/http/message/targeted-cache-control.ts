import { type Dictionary, parseDictionary } from 'structured-headers';
import { type CacheControl, fieldNames, MAX_SECONDS } from './cache-control.ts';

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
  // One value, of which whitespace around it is no part (RFC 9651, section 4.2; RFC 9110, section 5.5).
  const lines = typeof value === 'object' ? value : [String(value ?? '')];
  const text = lines.join(', ').replace(/^[ \t]+/, '');
  const directives = dictionary(text);
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

/** A quoted string, also one that is not closed, or a Date with the character before it. */
const STRING_OR_DATE = /"(?:[^"\\]|\\.)*(?:"|\\?$)|([=( ])@-?\d{1,15}(?![\d.])/gs;

function dictionary(text: string): Dictionary | undefined {
  try {
    // The parser refuses a Date that is not at the very end of the field. No directive takes a Date, so a Token does as well.
    return parseDictionary(
      text.replace(STRING_OR_DATE, (match, before) => (before ? `${before}date` : match)),
    );
  } catch {
    return undefined;
  }
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
