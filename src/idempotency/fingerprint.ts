import { createHash, hash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { types } from 'node:util';
import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';
import { hasContent } from '../http/message/request-content.ts';
import { asExpress, originalUrl } from '../http/middleware.ts';
import type { IdempotencySettings } from './options.ts';

/** A request with the properties that body parsers set. */
interface ParsedRequest extends IncomingMessage {
  readonly rawBody?: unknown;
  readonly body?: unknown;
  /** Files, as multer and similar parsers set them: one, a list, or lists by field name. */
  readonly file?: unknown;
  readonly files?: unknown;
}

/** Why a request has no fingerprint, and is refused. */
export type Unfingerprintable = 'unread-body' | 'deep-body';

/** A SHA-256 that is equal for a request and its retries. */
export function fingerprintOf(
  req: IncomingMessage,
  fingerprint: IdempotencySettings['fingerprint'],
): Buffer | Unfingerprintable | Promise<Buffer> {
  if (fingerprint !== undefined) {
    const own: unknown = fingerprint(asExpress(req));
    return isContent(own) ? sha256(own) : Promise.resolve(own).then(hashOf);
  }
  const body = bodyOf(req);
  if (typeof body === 'string') return body;
  const head = JSON.stringify([req.method, originalUrl(req), body.kind]);
  if (typeof body.bytes === 'string') return sha256(head + body.bytes);
  return createHash('sha256').update(head).update(body.bytes).digest();
}

function isContent(value: unknown): value is string | Uint8Array {
  return typeof value === 'string' || types.isUint8Array(value);
}

function hashOf(own: unknown): Buffer {
  if (isContent(own)) return sha256(own);
  throw new ConfigError(
    `kit.idempotency: option \`fingerprint\` returned ${describe(own)}; it must return a string or bytes`,
  );
}

function sha256(bytes: string | Uint8Array): Buffer {
  // Twice as fast as the encoding 'buffer'.
  return Buffer.from(hash('sha256', bytes, 'binary'), 'latin1');
}

interface FingerprintedBody {
  readonly kind: 'none' | 'bytes' | 'text' | 'json' | 'form';
  readonly bytes: string | Uint8Array;
}

/** The body for the fingerprint: the bytes as sent if `rawBody` contains them, else the parsed body. */
function bodyOf(req: ParsedRequest): FingerprintedBody | Unfingerprintable {
  const { rawBody, body } = req;
  for (const raw of [rawBody, body]) {
    if (types.isUint8Array(raw)) return { kind: 'bytes', bytes: raw };
    if (typeof raw === 'string') return { kind: 'text', bytes: raw };
  }
  if (isUnread(req)) return hasContent(req) ? 'unread-body' : { kind: 'none', bytes: '' };
  const isForm = /^multipart\//i.test(req.headers['content-type'] ?? '');
  if (isForm && hasFiles(req)) {
    throw new ConfigError(
      'kit.idempotency: the request has files, which are not in req.body; give the option `fingerprint`',
    );
  }
  const text = jsonOf(body, isForm);
  return text === undefined ? 'deep-body' : { kind: isForm ? 'form' : 'json', bytes: text };
}

/**
 * Whether no parser has read the body. A parser that does not accept the content type leaves `req.body` unset; in
 * Express 4 the parser sets an empty object.
 */
function isUnread({ body, readableEnded }: ParsedRequest): boolean {
  if (body === undefined) return true;
  // After the end of the stream, null and an empty object are parsed bodies: the JSON texts `null` and `{}`.
  return (body === null || isEmptyObject(body)) && !readableEnded;
}

function hasFiles({ file, files }: ParsedRequest): boolean {
  if (file !== undefined && file !== null) return true;
  return typeof files === 'object' && files !== null && Object.keys(files).length > 0;
}

/** The JSON of a body; undefined if it is too deep for JSON.stringify. JSON.parse accepts deeper bodies. */
function jsonOf(body: unknown, isForm: boolean): string | undefined {
  const isData = typeof body !== 'object' || body === null || Array.isArray(body) || isPlain(body);
  let text: string | undefined;
  try {
    if (isData) text = JSON.stringify(body, isForm ? withoutHoles : undefined);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    // The body has a cycle or a BigInt, which JSON cannot represent.
  }
  if (text !== undefined) return text;
  throw new ConfigError(
    `kit.idempotency: req.body is ${describe(body)} that JSON cannot represent; give the option \`fingerprint\``,
  );
}

/** A form field `a[4000000000]` becomes an array of that length, and JSON.stringify would write all of its holes. */
function withoutHoles(_key: string, value: unknown): unknown {
  return Array.isArray(value) ? { ...value } : value;
}

/** Whether an object is plain. Different streams and other instances can have no properties, and so equal JSON. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

function isEmptyObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && isPlain(value) && Object.keys(value).length === 0;
}
