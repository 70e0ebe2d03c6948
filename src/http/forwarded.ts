import type { IncomingMessage } from 'node:http';
import { trimWhitespace } from './message/optional-whitespace.ts';

/**
 * The host and the scheme of the original request, from the X-Forwarded fields of a proxy. Undefined without these fields, and
 * if the Express app does not trust the proxy (`trust proxy`).
 */
export function forwardedOf(
  req: IncomingMessage,
): Readonly<Record<'host' | 'proto', string | undefined>> | undefined {
  const { 'x-forwarded-host': host, 'x-forwarded-proto': proto } = req.headers;
  if (host === undefined && proto === undefined) return undefined;
  const { app } = req as { app?: { get?(setting: string): unknown } };
  const trusts = app?.get?.('trust proxy fn');
  if (typeof trusts !== 'function' || trusts(req.socket.remoteAddress, 0) !== true) return undefined;
  return { host: firstOf(host), proto: firstOf(proto) };
}

/** The first of several values. */
function firstOf(field: string | string[] | undefined): string | undefined {
  return field === undefined ? undefined : trimWhitespace(String(field).split(',', 1)[0] ?? '');
}
