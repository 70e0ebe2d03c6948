import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Keys } from '../base/keys.ts';
import type { Middleware, Req, Res } from '../http/middleware.ts';
import type { LockDeps } from './granted-lock.ts';
import { KitLocks, type Locks } from './kit-locks.ts';
import { type LockHandler, lockMiddleware } from './middleware.ts';
import type { LockOptions } from './options.ts';

export interface LockMethods {
  /**
   * Allows one request per key at a time; others wait, or are refused with 409. Sets `req.lock`, and holds the lock until
   * the response has ended, or until the promise of the handler that you pass settles.
   */
  lock<Request extends IncomingMessage = Req, Response extends ServerResponse = Res>(
    options: LockOptions<Request>,
    handler?: LockHandler<Request, Response>,
  ): Middleware;
  /** The same locks without HTTP. */
  readonly locks: Locks;
}

export function lockFeature(kit: Omit<LockDeps, 'keys'>) {
  return (keys: Keys): LockMethods => {
    const deps = { ...kit, keys };
    return {
      lock: (options: LockOptions<never>, handler?: LockHandler<never, never>) =>
        lockMiddleware(options, deps, handler),
      locks: new KitLocks(deps),
    };
  };
}
