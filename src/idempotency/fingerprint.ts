import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { types } from 'node:util';
import { describe } from '../base/check.ts';
import { ConfigError } from '../base/errors.ts';
import { asExpress, originalUrl } from '../http/middleware.ts';
import type { IdempotencySettings } from './options.ts';

/** What body parsers leave on a request. */
interface Parsed extends IncomingMessage {
  readonly rawBody?: unknown;
  readonly body?: unknown;
}

/** The SHA-256 of what a request asks for. A retry has the same. */
export async function fingerprintOf(
  req: IncomingMessage,
  fingerprint: IdempotencySettings['fingerprint'],
): Promise<Buffer> {
  const hash = createHash('sha256');
  if (fingerprint === undefined) {
    const { kind, bytes } = bodyOf(req);
    hash.update(JSON.stringify([req.method, originalUrl(req), kind])).update(bytes);
    return hash.digest();
  }
  const own: unknown = await fingerprint(asExpress(req));
  if (typeof own === 'string' || types.isUint8Array(own)) return hash.update(own).digest();
  throw new ConfigError(
    `kit.idempotency: option \`fingerprint\` returned ${describe(own)}; it must return a string or bytes`,
  );
}

interface Body {
  readonly kind: 'none' | 'bytes' | 'text' | 'json';
  readonly bytes: string | Uint8Array;
}

/** As it was sent where somebody has kept it, else as it was parsed. */
function bodyOf(req: Parsed): Body {
  const { rawBody, body } = req;
  // The parser of Express 4 leaves an empty object also where it has read nothing.
  const isMissing = body === undefined || body === null || (isEmptyObject(body) && !req.readableEnded);
  for (const raw of [rawBody, body]) {
    if (types.isUint8Array(raw)) return { kind: 'bytes', bytes: raw };
    if (typeof raw === 'string') return { kind: 'text', bytes: raw };
  }
  if (!hasBody(req) && isMissing) return { kind: 'none', bytes: '' };
  if (isMissing) {
    throw new ConfigError(
      'kit.idempotency: the request has a body, and neither req.body nor req.rawBody has it, so a retry could not be told from another request; put express.json() (or what else parses the body) before kit.idempotency, or give the option `fingerprint`',
    );
  }
  if (/^multipart\//i.test(req.headers['content-type'] ?? '')) {
    throw new ConfigError(
      'kit.idempotency: the request has files, which are not in req.body; give the option `fingerprint`',
    );
  }
  return { kind: 'json', bytes: jsonOf(body) };
}

function jsonOf(body: unknown): string {
  const isData = typeof body !== 'object' || Array.isArray(body) || isPlain(body);
  let text: string | undefined;
  try {
    if (isData) text = JSON.stringify(body);
  } catch {
    // A cycle or a BigInt, of which JSON has no form.
  }
  if (text !== undefined) return text;
  throw new ConfigError(
    `kit.idempotency: req.body is ${describe(body)} that JSON has no form for; give the option \`fingerprint\``,
  );
}

/** Anything else, a stream for example, would look like an empty object, and so like any other. */
function isPlain(value: object | null): boolean {
  const prototype: unknown = value === null ? null : Object.getPrototypeOf(value);
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
