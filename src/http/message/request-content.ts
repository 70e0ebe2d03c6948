import type { IncomingMessage } from 'node:http';
import { types } from 'node:util';

/** The properties that body parsers set. */
interface Parsed extends IncomingMessage {
  readonly rawBody?: unknown;
  readonly body?: unknown;
}

/** The content of a request, as sent or as a parser read it. `kind` distinguishes equal bytes of different forms. */
export interface RequestContent {
  readonly kind: 'none' | 'bytes' | 'text' | 'json';
  readonly bytes: string | Uint8Array;
}

/** Whether a request has content, by its fields (RFC 9112, section 6.3) or its HTTP/2 stream. */
export function hasContent(
  req: IncomingMessage & { readonly stream?: { readonly endAfterHeaders?: boolean } },
): boolean {
  const { 'content-length': length, 'transfer-encoding': coding } = req.headers;
  if (coding !== undefined || (length !== undefined && Number(length) !== 0)) return true;
  // HTTP/2 requests with content may have neither field.
  return req.httpVersionMajor > 1 && req.stream?.endAfterHeaders === false;
}

/** The content from `rawBody` or `body`; undefined if no parser has read it or the value has no unambiguous text. */
export function requestContent(req: Parsed): RequestContent | undefined {
  if (!hasContent(req)) return { kind: 'none', bytes: '' };
  const { rawBody, body } = req;
  for (const raw of [rawBody, body]) {
    if (types.isUint8Array(raw)) return { kind: 'bytes', bytes: raw };
    if (typeof raw === 'string') return { kind: 'text', bytes: raw };
  }
  const type = req.headers['content-type'] ?? '';
  // The files of a multipart request are not in `req.body`.
  if (body === undefined || /^multipart\//i.test(type)) return undefined;
  // Express 4 sets an empty object even if no parser has read the content.
  if (isEmpty(body) && !(req.readableEnded && isParsedByExpress(type))) return undefined;
  const text = jsonOf(body);
  return text === undefined ? undefined : { kind: 'json', bytes: text };
}

/** The content types that `express.json()` and `express.urlencoded()` read by default. */
function isParsedByExpress(type: string): boolean {
  return /^application\/(json|x-www-form-urlencoded)\b/i.test(type);
}

function isEmpty(value: unknown): boolean {
  return value === null || (typeof value === 'object' && Object.keys(value).length === 0);
}

/** Converts a value to JSON. Undefined for a class instance: two streams, for example, would have the same JSON. */
function jsonOf(value: unknown): string | undefined {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== null && prototype !== Object.prototype) return undefined;
  }
  try {
    return JSON.stringify(value);
  } catch {
    // The value has a cycle or contains a BigInt.
    return undefined;
  }
}
