/*
 * The text of event streams (WHATWG HTML, section 9.2): lines of `field: value`, and an empty line after each event. JSON
 * text of `JSON.stringify` has no line breaks, which would end the field.
 */

/** A comment, which clients ignore. */
export const HEARTBEAT: Buffer = Buffer.from(':\n\n');

/** The lines of an event, without its id and without the empty line that ends it. `event`: a name without line breaks. */
export function eventLines(data: unknown, event: string | undefined): string {
  const name = event === undefined || event === '' ? '' : `event: ${event}\n`;
  return `${name}data: ${JSON.stringify(data)}\n`;
}

/** A complete event, or, without lines, an id alone: the client keeps it as its last id and dispatches nothing. */
export function frameOf(lines: string, id?: string): Buffer {
  return Buffer.from(id === undefined ? `${lines}\n` : `id: ${id}\n${lines}\n`);
}

export function hasLineBreak(text: string): boolean {
  return /[\r\n\0]/.test(text);
}
