import type { IncomingMessage } from 'node:http';
import { RedisKitError } from '../base/errors.ts';
import { identityError, isIdentity } from '../base/identity.ts';
import { clientAddress, networkOf } from '../http/client-address.ts';
import { asExpress } from '../http/middleware.ts';
import type { IdempotencySettings } from './options.ts';

/** The scope of the request's key. Redis stores the scope only in a hash, as a part of the Redis key. */
export function scopeOf(
  req: IncomingMessage,
  scope: IdempotencySettings['scope'],
  warn: (message: string) => void,
): string | Promise<string> {
  if (scope === undefined) return defaultScope(req, warn);
  const own: unknown = scope(asExpress(req));
  return isIdentity(own) ? own : Promise.resolve(own).then(checkedScope);
}

function checkedScope(own: unknown): string {
  if (isIdentity(own)) return own;
  throw identityError('kit.idempotency: option `scope`', own, 'a string that is not empty');
}

function defaultScope(req: IncomingMessage, warn: (message: string) => void): string {
  const { session, sessionID } = req as { session?: { userId?: unknown } | null; sessionID?: unknown };
  const user = session?.userId;
  if ((typeof user === 'string' && user !== '') || typeof user === 'number') return `user:${user}`;
  const { authorization } = req.headers;
  if (authorization !== undefined) return `authorization:${authorization}`;
  if (typeof sessionID === 'string' && hasSent(req, sessionID)) return `session:${sessionID}`;
  const address = clientAddress(req);
  if (address === undefined) {
    throw new RedisKitError(
      'ERR_REDIS_KIT_NO_IDENTITY',
      'kit.idempotency: the request has no user, no session and no client address; give the option `scope`',
    );
  }
  warn(
    'kit.idempotency: a request has no user, no Authorization and no session, so its client address is the scope of its key, which clients behind one address share; give the option `scope`',
  );
  return `address:${networkOf(address, false)}`;
}

/** Whether the client sent the session id. A retry has another id if the server created the id for this request. */
function hasSent({ headers }: IncomingMessage, sessionId: string): boolean {
  return sessionId !== '' && (headers.cookie ?? '').includes(encodeURIComponent(sessionId));
}
