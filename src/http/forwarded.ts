import type { IncomingMessage } from 'node:http';

/** What a proxy says about the request that it forwards. */
export interface Forwarded {
  readonly host: string | undefined;
  readonly proto: string | undefined;
}

/**
 * What an Express app takes for its host and scheme, since its `trust proxy` trusts the proxy; undefined where nothing
 * was forwarded, or the app does not believe it.
 */
export function forwardedOf(req: IncomingMessage): Forwarded | undefined {
  const { 'x-forwarded-host': host, 'x-forwarded-proto': proto } = req.headers;
  if (host === undefined && proto === undefined) return undefined;
  const { app } = req as { app?: { get?(setting: string): unknown } };
  const trusts = app?.get?.('trust proxy fn');
  if (typeof trusts !== 'function' || trusts(req.socket.remoteAddress, 0) !== true) return undefined;
  return { host: firstOf(host), proto: firstOf(proto) };
}

/** Express believes the first of several as well. */
function firstOf(field: string | string[] | undefined): string | undefined {
  return field === undefined ? undefined : (String(field).split(',', 1)[0] ?? '').trim();
}
