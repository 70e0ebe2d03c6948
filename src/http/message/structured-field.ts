import { type Dictionary, parseDictionary } from 'structured-headers';

/**
 * The value of a structured field. Its lines form one value, without the white space around it (RFC 9651, section 4.2; RFC
 * 9110, section 5.5).
 */
export function fieldText(value: number | string | readonly string[] | undefined): string {
  const lines = typeof value === 'object' ? value : [String(value ?? '')];
  return lines.join(', ').replace(/^[ \t]+/, '');
}

/** A String, even an unterminated one, or a Date with the character before it. */
const STRING_OR_DATE = /"(?:[^"\\]|\\.)*(?:"|\\?$)|([=( ])@-?\d{1,15}(?![\d.])/gs;

/** The members of a Dictionary, with a Token in place of each Date; undefined for a malformed field. */
export function fieldDictionary(text: string): Dictionary | undefined {
  try {
    // The parser accepts a Date only at the end of the field. No directive takes a Date, so a Token has the same effect.
    return parseDictionary(
      text.replace(STRING_OR_DATE, (match, before) => (before ? `${before}date` : match)),
    );
  } catch {
    return undefined;
  }
}
