import { parseItem } from 'structured-headers';
import { trimWhitespace } from '../http/message/optional-whitespace.ts';

/** The most characters of a key, without its quotes. */
const MAX_LENGTH = 255;

/** A key without quotes: clients that do not implement structured fields send a UUID, or another token. */
const BARE: RegExp = /^[\w!#$%&'*+\-.^`|~:/=@]+$/;

/** A String of a structured field without escaped characters and without parameters. */
const PLAIN_STRING: RegExp = /^"[ !#-[\]-~]*"$/;

/**
 * The key in a header field: a structured-field String (section 2.1 of the Idempotency-Key draft), or the same text
 * without quotes; both are the same key. Undefined when the field is neither, or the key is empty or too long.
 * Parameters are ignored.
 */
export function keyOf(field: string): string | undefined {
  const text = trimWhitespace(field);
  const key = BARE.test(text) ? text : quoted(text);
  return key !== undefined && key.length > 0 && key.length <= MAX_LENGTH ? key : undefined;
}

function quoted(text: string): string | undefined {
  if (!text.startsWith('"')) return undefined;
  // The parser takes ten times as long.
  if (PLAIN_STRING.test(text)) return text.slice(1, -1);
  try {
    const [value] = parseItem(text);
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}
