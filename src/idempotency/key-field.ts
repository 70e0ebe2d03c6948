import { parseItem } from 'structured-headers';

/** In characters, of the key itself. */
const MAX_LENGTH = 255;

/** What clients send that know of no structured fields: a UUID, or another token without quotes. */
const BARE: RegExp = /^[\w!#$%&'*+\-.^`|~:/=@]+$/;

/**
 * The key that a header field carries: a String of structured fields, as the draft says (section 2.1), or the same without
 * its quotes; both are one key. Undefined when it is neither, is empty or is too long. Parameters are ignored.
 */
export function keyOf(field: string): string | undefined {
  const text = field.trim();
  const key = BARE.test(text) ? text : quoted(text);
  return key !== undefined && key.length > 0 && key.length <= MAX_LENGTH ? key : undefined;
}

function quoted(text: string): string | undefined {
  if (!text.startsWith('"')) return undefined;
  try {
    const [value] = parseItem(text);
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}
