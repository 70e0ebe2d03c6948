import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Keys } from '../base/keys.ts';
import type { Middleware, Req, Res } from '../http/middleware.ts';
import type { LockDeps } from './granted-lock.ts';
import { KitLocks, type Locks } from './kit-locks.ts';
import { type LockHandler, lockMiddleware } from './middleware.ts';
import type { LockOptions } from './options.ts';

export interface LockMethods {
  /**
   * Allows one request per key at a time; other requests wait or are refused. Sets `req.lock`. The lock is held until
   * the response ends or, if you pass a handler that returns a promise, until the promise settles.
   */
  lock<Request extends IncomingMessage = Req, Response extends ServerResponse = Res>(
    options: LockOptions<Request>,
    handler?: LockHandler<Request, Response>,
  ): Middleware;
  /** Locks for code outside of a request. Equal keys are the same lock in `kit.lock` and `kit.locks`. */
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
