const SPACE = 32;
const TAB = 9;

/**
 * Removes spaces and tabs at both ends, the only white space around parts of a field (RFC 9110, section 5.6.3).
 * `trim()` also removes the no-break space, which Node accepts in a field: the kit would then read another value than
 * the handler, and one client could choose the response of another.
 */
export function trimWhitespace(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && isWhitespace(text.charCodeAt(start))) start++;
  while (end > start && isWhitespace(text.charCodeAt(end - 1))) end--;
  return text.slice(start, end);
}

/** Whether a character code is that of a space or a tab. */
export function isWhitespace(code: number): boolean {
  return code === SPACE || code === TAB;
}
