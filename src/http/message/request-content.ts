import type { IncomingMessage } from 'node:http';
import { types } from 'node:util';

/** What body parsers leave on a request. */
interface Parsed extends IncomingMessage {
  readonly rawBody?: unknown;
  readonly body?: unknown;
}

/** The content of a request, as it was sent or as a parser read it. `kind` tells equal bytes of two forms apart. */
export interface RequestContent {
  readonly kind: 'none' | 'bytes' | 'text' | 'json';
  readonly bytes: string | Uint8Array;
}

/** Whether a request has content, however short (RFC 9112, section 6.3). */
export function hasContent(
  req: IncomingMessage & { readonly stream?: { readonly endAfterHeaders?: boolean } },
): boolean {
  const { 'content-length': length, 'transfer-encoding': coding } = req.headers;
  if (coding !== undefined || (length !== undefined && Number(length) !== 0)) return true;
  // HTTP/2 needs neither field.
  return req.httpVersionMajor > 1 && req.stream?.endAfterHeaders === false;
}

/** The content that a parser has left in `rawBody` or `body`; undefined when it cannot be known. */
export function requestContent(req: Parsed): RequestContent | undefined {
  if (!hasContent(req)) return { kind: 'none', bytes: '' };
  const { rawBody, body } = req;
  for (const raw of [rawBody, body]) {
    if (types.isUint8Array(raw)) return { kind: 'bytes', bytes: raw };
    if (typeof raw === 'string') return { kind: 'text', bytes: raw };
  }
  const type = req.headers['content-type'] ?? '';
  // Files are not in `req.body`.
  if (body === undefined || /^multipart\//i.test(type)) return undefined;
  // Express 4 leaves an empty object also where no parser read the content.
  if (isEmpty(body) && !(req.readableEnded && isParsedByExpress(type))) return undefined;
  const text = jsonOf(body);
  return text === undefined ? undefined : { kind: 'json', bytes: text };
}

/** What `express.json()` and `express.urlencoded()` read by default. */
function isParsedByExpress(type: string): boolean {
  return /^application\/(json|x-www-form-urlencoded)\b/i.test(type);
}

function isEmpty(value: unknown): boolean {
  return value === null || (typeof value === 'object' && Object.keys(value).length === 0);
}

/** Undefined for what JSON has no form for, a stream for example, which would look like any other. */
function jsonOf(value: unknown): string | undefined {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== null && prototype !== Object.prototype) return undefined;
  }
  try {
    return JSON.stringify(value);
  } catch {
    // A cycle or a BigInt.
    return undefined;
  }
}
