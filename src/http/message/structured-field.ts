import { type Dictionary, parseDictionary, serializeString } from 'structured-headers';

/** Joins the lines of a structured field, without leading spaces (RFC 9651, section 4.2; RFC 9110, section 5.5). */
export function fieldText(value: number | string | readonly string[] | undefined): string {
  const lines = typeof value === 'object' ? value : [String(value ?? '')];
  return lines.join(', ').replace(/^[ \t]+/, '');
}

/** Matches a quoted string, closed or not, or a Date with the character before it. */
const STRING_OR_DATE = /"(?:[^"\\]|\\.)*(?:"|\\?$)|([=( ])@-?\d{1,15}(?![\d.])/gs;

/** Parses a Dictionary, with a Token in place of each Date; undefined for an invalid field. */
export function fieldDictionary(text: string): Dictionary | undefined {
  try {
    // The parser accepts a Date only at the end of the field. No directive has a Date as its value, so a Token replaces
    // each Date.
    return parseDictionary(
      text.replace(STRING_OR_DATE, (match, before) => (before ? `${before}date` : match)),
    );
  } catch {
    return undefined;
  }
}

/** A Token (RFC 9651, section 3.3.4). */
const TOKEN = /^[A-Za-z*][\w!#$%&'*+.^`|~:/-]*$/;

/** A text as a Token, or as a String whose characters outside of ASCII are replaced. */
export function tokenOrString(text: string): string {
  return TOKEN.test(text) ? text : serializeString(text.replace(/[^\x20-\x7e]/g, '?'));
}
