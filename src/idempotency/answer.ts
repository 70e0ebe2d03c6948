import type { IncomingMessage, ServerResponse } from 'node:http';
import { packFrame, unpackFrame } from '../base/framing.ts';
import { areHeaders, areNames, type Header, removeHeaders } from '../http/response/stored-headers.ts';

/** A response that is kept for whoever repeats its request. */
export interface Answer {
  readonly status: number;
  readonly headers: readonly Header[];
  /** Names of headers that middleware above had set and the handler took off. */
  readonly removed: readonly string[];
  readonly body: Buffer;
}

export function packAnswer({ status, headers, removed, body }: Answer): Buffer {
  return packFrame([status, headers, body.length, ...(removed.length === 0 ? [] : [removed])], body);
}

/** Undefined for what cannot be sent. */
export function unpackAnswer(packed: Buffer): Answer | undefined {
  const { meta, body } = unpackFrame(packed) ?? {};
  if (body === undefined || !Array.isArray(meta)) return undefined;
  const [status, headers, bodyLength, removed = []]: unknown[] = meta;
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
