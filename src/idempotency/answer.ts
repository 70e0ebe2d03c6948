import type { IncomingMessage, ServerResponse } from 'node:http';
import { areHeaders, areNames, type Header, removeHeaders } from '../http/response/handler-headers.ts';

/** A response that is kept for whoever repeats its request. */
export interface Answer {
  readonly status: number;
  readonly headers: readonly Header[];
  /** Names of headers that middleware above had set and the handler took off. */
  readonly removed: readonly string[];
  readonly body: Buffer;
}

/* Packed as [length of meta u32][meta as a JSON array][body]: the body is sliced from the reply, never copied. */

export function packAnswer({ status, headers, removed, body }: Answer): Buffer {
  const meta = Buffer.from(
    JSON.stringify([status, headers, body.length, ...(removed.length === 0 ? [] : [removed])]),
  );
  const length = Buffer.alloc(4);
  length.writeUInt32BE(meta.length);
  return Buffer.concat([length, meta, body]);
}

/** Undefined for what cannot be sent. */
export function unpackAnswer(packed: Buffer): Answer | undefined {
  if (packed.length < 4) return undefined;
  const bodyAt = 4 + packed.readUInt32BE(0);
  let meta: unknown;
  try {
    meta = JSON.parse(packed.toString('utf8', 4, bodyAt));
  } catch {
    return undefined;
  }
  if (!Array.isArray(meta)) return undefined;
  const [status, headers, bodyLength, removed = []]: unknown[] = meta;
  const body = packed.subarray(bodyAt);
  const isStatus = typeof status === 'number' && Number.isInteger(status) && status >= 200 && status <= 999;
  if (!isStatus || body.length !== bodyLength || !areHeaders(headers) || !areNames(removed)) return undefined;
  return { status, headers, removed, body };
}

/** Sends it once more, by `Idempotent-Replayed` to be told from the first time. */
export function sendAnswer(
  req: IncomingMessage,
  res: ServerResponse,
  { status, headers, removed, body }: Answer,
): void {
  // Another answer has begun: whoever began it will end it.
  if (res.headersSent) return;
  res.statusCode = status;
  removeHeaders(res, removed);
  for (const [name, value] of headers) res.setHeader(name, value);
  res.setHeader('Idempotent-Replayed', 'true');
  // RFC 9110, section 8.6: none in a 204.
  if (status !== 204 && status !== 304) res.setHeader('Content-Length', body.length);
  if (req.method === 'HEAD' || body.length === 0) res.end();
  else res.end(body);
}
