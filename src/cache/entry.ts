import { type IncomingHttpHeaders, validateHeaderName, validateHeaderValue } from 'node:http';

/** A stored response. */
export interface CacheEntry {
  readonly status: number;
  readonly headers: readonly (readonly [name: string, value: string | readonly string[]])[];
  /** The request headers that the response varies on, with the values that it was made for. */
  readonly vary: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer;
}

/* Packed as [length of meta u32][meta as a JSON array][body]: the body is sliced from the reply, never copied. */

export function packEntry({ status, headers, vary, body }: CacheEntry): Buffer {
  const meta = Buffer.from(JSON.stringify([status, headers, vary, body.length]));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(meta.length);
  return Buffer.concat([length, meta, body]);
}

/** The entry, or undefined when the bytes are none. */
export function unpackEntry(packed: Buffer): CacheEntry | undefined {
  if (packed.length < 4) return undefined;
  const bodyAt = 4 + packed.readUInt32BE(0);
  if (bodyAt > packed.length) return undefined;
  try {
    const meta: unknown = JSON.parse(packed.toString('utf8', 4, bodyAt));
    if (!Array.isArray(meta)) return undefined;
    const [status, headers, vary, bodyLength]: unknown[] = meta;
    const body = packed.subarray(bodyAt);
    if (!isStatus(status) || !areHeaders(headers) || !areNamesAndValues(vary) || body.length !== bodyLength)
      return undefined;
    return { status, headers, vary, body };
  } catch {
    return undefined;
  }
}

/** Whether a stored response may answer this request (RFC 9111, section 4.1). */
export function matchesVary(entry: CacheEntry, headers: IncomingHttpHeaders): boolean {
  return entry.vary.every(([name, value]) => headerValue(headers, name) === value);
}

export function headerValue(headers: IncomingHttpHeaders, name: string): string {
  const value = headers[name];
  return Array.isArray(value) ? value.join(', ') : (value ?? '');
}

function isStatus(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 200 && value <= 599;
}

function areHeaders(value: unknown): value is CacheEntry['headers'] {
  return Array.isArray(value) && value.every(isHeader);
}

/** Throws on what Node would refuse to send, since by then the answer would have begun. */
function isHeader(pair: unknown): boolean {
  if (!isPair(pair)) return false;
  const [name, value] = pair;
  validateHeaderName(name);
  if (!isText(value)) return areTexts(value) && value.every((line) => isHeader([name, line]));
  validateHeaderValue(name, value);
  return true;
}

function areNamesAndValues(value: unknown): value is CacheEntry['vary'] {
  return Array.isArray(value) && value.every((pair) => isPair(pair) && isText(pair[1]));
}

function isPair(value: unknown): value is [string, unknown] {
  return Array.isArray(value) && value.length === 2 && isText(value[0]);
}

function areTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(isText);
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}
