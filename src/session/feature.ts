import type { IncomingMessage } from 'node:http';
import type { Keys } from '../base/keys.ts';
import type { Middleware, Req } from '../http/middleware.ts';
import { type SessionAdmin, SessionAdministration } from './admin.ts';
import { type SessionMiddlewareDeps, sessionMiddleware } from './middleware.ts';
import type { SessionOptions } from './options.ts';
import { noSeal } from './seal.ts';
import type { SessionStore } from './store/callback-store.ts';
import { makeSessionStore } from './store/session-store.ts';
import type { StoreOptions } from './store/store-options.ts';

export interface SessionMethods {
  /** Returns middleware that loads `req.session` before the handler runs, and saves it before the headers are sent. */
  session<Request extends IncomingMessage = Req>(options?: SessionOptions<Request>): Middleware;
  /** Returns a store for an app that keeps its own express-session. */
  sessionStore(options?: StoreOptions): SessionStore;
  /** Lists, counts and revokes the sessions of users. */
  readonly sessions: SessionAdmin;
}

export function sessionFeature(kit: Omit<SessionMiddlewareDeps, 'keys' | 'seals'>) {
  return (keys: Keys): SessionMethods => {
    const deps = { ...kit, keys, seals: new Set([noSeal]) };
    return {
      session: (options: SessionOptions<never> = {}) => sessionMiddleware(options, deps),
      sessionStore: (options: StoreOptions = {}) => {
        const store = makeSessionStore(options, deps);
        deps.failurePolicies.record('session', 'error');
        return store;
      },
      sessions: new SessionAdministration(deps, deps.seals),
    };
  };
}
