import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { types } from 'node:util';
import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';
import { asExpress, originalUrl } from '../http/middleware.ts';
import type { IdempotencySettings } from './options.ts';

/** What body parsers leave on a request. */
interface Parsed extends IncomingMessage {
  readonly rawBody?: unknown;
  readonly body?: unknown;
  /** Where multer and its like put files: one, a list of them, or lists by the names of their fields. */
  readonly file?: unknown;
  readonly files?: unknown;
}

/** Why no retry of a request can be told from another request; its client can change that. */
export type Unfingerprintable = 'unread-body' | 'deep-body';

/** The SHA-256 of what a request asks for, which a retry asks for as well. */
export async function fingerprintOf(
  req: IncomingMessage,
  fingerprint: IdempotencySettings['fingerprint'],
): Promise<Buffer | Unfingerprintable> {
  const hash = createHash('sha256');
  if (fingerprint === undefined) {
    const body = bodyOf(req);
    if (typeof body === 'string') return body;
    hash.update(JSON.stringify([req.method, originalUrl(req), body.kind])).update(body.bytes);
    return hash.digest();
  }
  const own: unknown = await fingerprint(asExpress(req));
  if (typeof own === 'string' || types.isUint8Array(own)) return hash.update(own).digest();
  throw new ConfigError(
    `kit.idempotency: option \`fingerprint\` returned ${describe(own)}; it must return a string or bytes`,
  );
}

interface Body {
  readonly kind: 'none' | 'bytes' | 'text' | 'json' | 'form';
  readonly bytes: string | Uint8Array;
}

/** As it was sent where `rawBody` has it, else as it was parsed. */
function bodyOf(req: Parsed): Body | Unfingerprintable {
  const { rawBody, body } = req;
  for (const raw of [rawBody, body]) {
    if (types.isUint8Array(raw)) return { kind: 'bytes', bytes: raw };
    if (typeof raw === 'string') return { kind: 'text', bytes: raw };
  }
  if (isUnread(req)) return hasBody(req) ? 'unread-body' : { kind: 'none', bytes: '' };
  const isForm = /^multipart\//i.test(req.headers['content-type'] ?? '');
  if (isForm && hasFiles(req)) {
    throw new ConfigError(
      'kit.idempotency: the request has files, which are not in req.body; give the option `fingerprint`',
    );
  }
  const text = jsonOf(body, isForm);
  return text === undefined ? 'deep-body' : { kind: isForm ? 'form' : 'json', bytes: text };
}

/** A parser that leaves a body alone leaves `req.body` as it was; of Express 4 it makes an empty object of it. */
function isUnread({ body, readableEnded }: Parsed): boolean {
  if (body === undefined) return true;
  // The JSON text `null` is a body.
  return (body === null || isEmptyObject(body)) && !readableEnded;
}

function hasFiles({ file, files }: Parsed): boolean {
  if (file !== undefined && file !== null) return true;
  return typeof files === 'object' && files !== null && Object.keys(files).length > 0;
}

/** Undefined where it is nested more deeply than JSON.stringify can follow; JSON.parse has no such limit. */
function jsonOf(body: unknown, isForm: boolean): string | undefined {
  const isData = typeof body !== 'object' || body === null || Array.isArray(body) || isPlain(body);
  let text: string | undefined;
  try {
    if (isData) text = JSON.stringify(body, isForm ? withoutHoles : undefined);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    // A cycle or a BigInt, of which JSON has no form.
  }
  if (text !== undefined) return text;
  throw new ConfigError(
    `kit.idempotency: req.body is ${describe(body)} that JSON has no form for; give the option \`fingerprint\``,
  );
}

/** A form's field `a[4000000000]` makes an array of that length, whose holes JSON.stringify would spell out. */
function withoutHoles(_key: string, value: unknown): unknown {
  return Array.isArray(value) ? { ...value } : value;
}

/** Anything else, a stream for example, would look like an empty object, and so like any other. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

function isEmptyObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && isPlain(value) && Object.keys(value).length === 0;
}

function hasBody(
  req: IncomingMessage & { readonly stream?: { readonly endAfterHeaders?: boolean } },
): boolean {
  if (Number(req.headers['content-length'] ?? 0) > 0 || req.headers['transfer-encoding'] !== undefined)
    return true;
  // HTTP/2 needs neither.
  return req.httpVersionMajor > 1 && req.stream?.endAfterHeaders === false;
}
