import type { IncomingMessage, ServerResponse } from 'node:http';
import { packFrame, unpackFrame } from '../base/framing.ts';
import { closeIfBegun } from '../http/response/begun-response.ts';
import { areHeaders, areNames, type Header, removeHeaders } from '../http/response/stored-headers.ts';

/** The response to the first request with a key, replayed to its retries. */
export interface RecordedResponse {
  readonly status: number;
  readonly headers: readonly Header[];
  /** Names of headers that earlier middleware had set and the handler removed. */
  readonly removed: readonly string[];
  readonly body: Buffer;
}

export type RecordedHead = Omit<RecordedResponse, 'body'>;

/** Packs a response whose body is given in parts, with their total size. */
export function packResponse(
  { status, headers, removed }: RecordedHead,
  body: readonly Buffer[],
  size: number,
): Buffer {
  const meta = removed.length === 0 ? [status, headers, size] : [status, headers, size, removed];
  return packFrame(meta, ...body);
}

/** Returns undefined for bytes that are corrupt. */
export function unpackResponse(packed: Buffer): RecordedResponse | undefined {
  const { meta, body } = unpackFrame(packed) ?? {};
  if (body === undefined || !Array.isArray(meta)) return undefined;
  const [status, headers, bodyLength, removed = []]: unknown[] = meta;
  const isStatus = typeof status === 'number' && Number.isInteger(status) && status >= 200 && status <= 999;
  if (!isStatus || body.length !== bodyLength || !areHeaders(headers) || !areNames(removed)) return undefined;
  return { status, headers, removed, body };
}

/** Sends a recorded response with the header `Idempotent-Replayed`. */
export function replayResponse(
  req: IncomingMessage,
  res: ServerResponse,
  { status, headers, removed, body }: RecordedResponse,
): void {
  if (closeIfBegun(res)) return;
  res.statusCode = status;
  removeHeaders(res, removed);
  for (const [name, value] of headers) res.setHeader(name, value);
  res.setHeader('Idempotent-Replayed', 'true');
  // RFC 9110, section 8.6: a 204 has no Content-Length, and that of a 304 is the length of the 200 response.
  if (status !== 204 && status !== 304) res.setHeader('Content-Length', body.length);
  if (req.method === 'HEAD' || body.length === 0) res.end();
  else res.end(body);
}
