/*
 * Redis compares strings by their bytes, and a string has UTF-8 bytes only if it has no lone surrogate: all of those
 * would become U+FFFD, and different strings would be stored as the same one.
 */

const LONE_SURROGATE = /\p{Cs}/u;

/**
 * A string as it is stored: itself, or as a JSON string if it has a lone surrogate, which JSON escapes, or begins with a
 * quotation mark. Two strings never have the same stored form.
 */
export function storedText(text: string): string {
  return text.startsWith('"') || LONE_SURROGATE.test(text) ? JSON.stringify(text) : text;
}

/** The string of a stored form; undefined if no string has this form. */
export function textOfStored(stored: string): string | undefined {
  if (!stored.startsWith('"')) return stored;
  try {
    const text: unknown = JSON.parse(stored);
    return typeof text === 'string' && storedText(text) === stored ? text : undefined;
  } catch {
    return undefined;
  }
}

/** Compares strings by their UTF-8 bytes. The operators of JavaScript compare UTF-16 code units. */
export function compareUtf8(one: string, other: string): number {
  const length = Math.min(one.length, other.length);
  for (let index = 0; index < length; index++) {
    const difference = rankOf(one.charCodeAt(index)) - rankOf(other.charCodeAt(index));
    if (difference !== 0) return difference;
  }
  return one.length - other.length;
}

/** Surrogates encode the characters above U+FFFF, which have the greatest bytes in UTF-8. */
function rankOf(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}
