import { type ServerResponse, validateHeaderName, validateHeaderValue } from 'node:http';

/** A header of a stored response: the name as it was spelled, and the value or values. */
export type Header = readonly [name: string, value: string | readonly string[]];

/** Removes the headers that the stored response's handler removed: middleware above has set them for this request. */
export function removeHeaders(res: ServerResponse, names: readonly string[]): void {
  for (const name of names) res.removeHeader(name);
}

/** A flat list of names and values, the fastest form for `writeHead`. */
export function flatHeaders(headers: readonly Header[]): (string | string[])[] {
  return headers.flatMap(([name, value]) => [name, typeof value === 'string' ? value : [...value]]);
}

/** Whether stored headers are valid, since Node would throw for invalid ones after the response has begun. */
export function areHeaders(value: unknown): value is Header[] {
  try {
    return Array.isArray(value) && value.every(isHeader);
  } catch {
    return false;
  }
}

export function areNames(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((name) => typeof name === 'string');
}

function isHeader(pair: unknown): boolean {
  if (!Array.isArray(pair) || pair.length !== 2 || typeof pair[0] !== 'string') return false;
  const [name, value] = pair as [string, unknown];
  validateHeaderName(name);
  if (typeof value !== 'string') {
    return Array.isArray(value) && value.every((line) => typeof line === 'string' && isHeader([name, line]));
  }
  validateHeaderValue(name, value);
  return true;
}
