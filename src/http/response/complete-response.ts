import { type IncomingMessage, ServerResponse } from 'node:http';
import { ConfigError } from '../../base/errors.ts';
import { checkMiddlewareCall } from '../mount-check.ts';

/** What the kit calls on a response, whether Node or a test library made it. */
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
 * Whether a response can be answered on. Socket.IO passes a partial one for a WebSocket upgrade, and users of `ws` an
 * empty object.
 */
export function isComplete(req: IncomingMessage, res: unknown): res is ServerResponse {
  // Nearly every response is Node's own, and costs one check.
  if (res instanceof ServerResponse) return true;
  if (typeof res !== 'object' || res === null) return false;
  for (const name of METHODS) if (typeof Reflect.get(res, name) !== 'function') return false;
  // Mocks leave it out.
  if (Reflect.get(res, 'req') === undefined) Object.assign(res, { req });
  return true;
}

/** What Express or Connect calls a middleware with. */
interface MiddlewareCall {
  readonly req: IncomingMessage;
  readonly res: unknown;
  readonly next: unknown;
}

/**
 * The error of a middleware that cannot work without a complete response. Throws a ConfigError where there is no `next`
 * to report it to. `where` is how the user wrote the call.
 */
export function callError(where: string, { req, res, next }: MiddlewareCall): ConfigError | undefined {
  checkMiddlewareCall(where, req, next);
  if (isComplete(req, res)) return undefined;
  return new ConfigError(
    `${where}: the response is no ServerResponse (a WebSocket upgrade has none); mount it where requests are answered over HTTP`,
  );
}
