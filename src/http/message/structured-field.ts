import { type Dictionary, parseDictionary } from 'structured-headers';

/**
 * The value of a structured field, whose lines are one value. White space around it is no part of it (RFC 9651, section
 * 4.2; RFC 9110, section 5.5).
 */
export function fieldText(value: number | string | readonly string[] | undefined): string {
  const lines = typeof value === 'object' ? value : [String(value ?? '')];
  return lines.join(', ').replace(/^[ \t]+/, '');
}

/** A quoted string, also one that is not closed, or a Date with the character before it. */
const STRING_OR_DATE = /"(?:[^"\\]|\\.)*(?:"|\\?$)|([=( ])@-?\d{1,15}(?![\d.])/gs;

/** The members of a Dictionary, with a Token in place of each Date; undefined for a field that does not parse. */
export function fieldDictionary(text: string): Dictionary | undefined {
  try {
    // The parser refuses a Date that is not at the very end of the field. No member takes a Date, so a Token does as well.
    return parseDictionary(
      text.replace(STRING_OR_DATE, (match, before) => (before ? `${before}date` : match)),
    );
  } catch {
    return undefined;
  }
}
