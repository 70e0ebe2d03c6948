import { type IncomingMessage, ServerResponse } from 'node:http';
import { ConfigError } from '../../base/errors.ts';
import { checkMiddlewareCall } from '../mount-check.ts';

/** The methods that the kit calls on a response, which may be a mock. */
const METHODS = [
  'setHeader',
  'getHeader',
  'getHeaders',
  'getHeaderNames',
  'removeHeader',
  'writeHead',
  'write',
  'end',
  'once',
] as const;

/**
 * Whether a response has all methods that the kit calls. For a WebSocket upgrade, Socket.IO passes a partial response,
 * and users of `ws` pass an empty object.
 */
export function isComplete(req: IncomingMessage, res: unknown): res is ServerResponse {
  // Fast path for Node's own responses.
  if (res instanceof ServerResponse) return true;
  if (typeof res !== 'object' || res === null) return false;
  for (const name of METHODS) if (typeof Reflect.get(res, name) !== 'function') return false;
  // Mock responses may lack `req`.
  if (Reflect.get(res, 'req') === undefined) Object.assign(res, { req });
  return true;
}

/** The error for `next` if `res` is incomplete. Throws a ConfigError without `next`. `where` names the kit's method. */
export function callError(
  where: string,
  { req, res, next }: { readonly req: IncomingMessage; readonly res: unknown; readonly next: unknown },
): ConfigError | undefined {
  checkMiddlewareCall(where, req, next);
  if (isComplete(req, res)) return undefined;
  return new ConfigError(
    `${where}: the response is no ServerResponse (a WebSocket upgrade has none); mount it on HTTP routes`,
  );
}
