import type { IncomingMessage, ServerResponse } from 'node:http';
import { ConfigError, RedisKitError } from '../base/errors.ts';
import { checkedIdentity, identityError, isIdentity } from '../base/identity.ts';
import type { StateScopeName } from '../base/keys.ts';
import { asExpress, type Middleware, type Next } from '../http/middleware.ts';
import { checkMiddlewareCall } from '../http/mount-check.ts';
import { resolveStateOptions, type StateOptions, type StateSettings } from './options.ts';
import { type StateDeps, type StateScope, StoredScope } from './scope.ts';

/**
 * The state of the app, and of the user and the session of one request. To read a scope sends no command. It throws a
 * ConfigError if `kit.state` has no options for the scope.
 */
export interface RequestState {
  readonly app: StateScope;
  /** Undefined for a request without a user, whose id is null. */
  readonly user: StateScope | undefined;
  /** Throws with the code `ERR_REDIS_KIT_NO_IDENTITY` for a request without a session. */
  readonly session: StateScope;
}

/**
 * The middleware of `kit.state`. Its properties give the same state to code outside of a request. Each throws a
 * ConfigError if `kit.state` has no options for the scope, and for an id that is no string or empty.
 */
export interface StateMiddleware extends Middleware {
  readonly app: StateScope;
  user(id: string): StateScope;
  session(id: string): StateScope;
}

declare global {
  namespace Express {
    interface Request {
      /** The state of the app, and of the user and the session of this request. */
      state: RequestState;
    }
  }
}

/** The scopes that one `kit.state` call configures. */
class Scopes {
  readonly settings: StateSettings;
  readonly #deps: StateDeps;

  constructor(settings: StateSettings, deps: StateDeps) {
    this.settings = settings;
    this.#deps = deps;
  }

  /** Throws a ConfigError if the scope has no options. `idOf` is called only if it has. */
  scope(name: StateScopeName, idOf: () => string, onCreate?: () => void): StateScope {
    const settings = this.settings[name];
    if (settings === undefined) {
      const remedy = name === 'user' ? `user: { id, ttl }` : `${name}: { ttl }`;
      throw new ConfigError(`kit.state: the scope \`${name}\` has no options; add \`${remedy}\``);
    }
    const key = this.#deps.keys.state(name, idOf());
    const { touch, maxBytes, maxFields } = this.settings;
    return new StoredScope(key, { ttl: settings.ttl, touch, maxBytes, maxFields, onCreate }, this.#deps);
  }
}

/**
 * The ids are looked up when a scope is read, and again with each read: a login changes them. A handler that reads a
 * scope thereby reads the session or the user, so that `kit.cache` does not store its response for others.
 */
class ScopesOfRequest implements RequestState {
  readonly #req: IncomingMessage;
  readonly #scopes: Scopes;
  /** The state of a `kit.state` above, for the scopes that this one does not configure. */
  readonly #above: RequestState | undefined;

  constructor(req: IncomingMessage, scopes: Scopes) {
    this.#req = req;
    this.#scopes = scopes;
    const { state } = req as { state?: unknown };
    this.#above = state instanceof ScopesOfRequest ? state : undefined;
  }

  get app(): StateScope {
    return this.#inherited('app')?.app ?? this.#scopes.scope('app', () => APP_ID);
  }

  get user(): StateScope | undefined {
    const above = this.#inherited('user');
    if (above !== undefined) return above.user;
    const id = this.#scopes.settings.user?.id?.(asExpress(this.#req));
    return id === null ? undefined : this.#scopes.scope('user', () => checkedUserId(id));
  }

  get session(): StateScope {
    const above = this.#inherited('session');
    if (above !== undefined) return above.session;
    const isOwn = this.#scopes.settings.session?.id === undefined;
    const onCreate = isOwn ? () => initialize(this.#req) : undefined;
    return this.#scopes.scope('session', () => this.#sessionId(), onCreate);
  }

  #inherited(name: StateScopeName): RequestState | undefined {
    return this.#scopes.settings[name] === undefined ? this.#above : undefined;
  }

  #sessionId(): string {
    const { id: idOf } = this.#scopes.settings.session ?? {};
    const id = idOf === undefined ? ownSessionId(this.#req) : idOf(asExpress(this.#req));
    if (isIdentity(id)) return id;
    throw identityError('kit.state: option `id` of `session`', id, 'a string that is not empty');
  }
}

/** The id of the only app of a kit or namespace. */
const APP_ID = 'app';

function checkedUserId(id: unknown): string {
  if (isIdentity(id)) return id;
  const expected = 'a string that is not empty, or null for a request without a user';
  throw identityError('kit.state: option `id` of `user`', id, expected);
}

/**
 * Gives a session without data a property. Session middleware does not store a session that nothing was written to and
 * sends no cookie for it, so that no later request would have its id.
 */
function initialize(req: IncomingMessage): void {
  const { session } = req as { session?: unknown };
  if (typeof session !== 'object' || session === null) return;
  if (Object.keys(session).every((name) => name === 'cookie')) Object.assign(session, { hasState: true });
}

/** The id of `req.session`, which any session middleware sets. */
function ownSessionId(req: IncomingMessage): string {
  const { sessionID, session } = req as { sessionID?: unknown; session?: { readonly id?: unknown } | null };
  const id = sessionID ?? session?.id;
  if (isIdentity(id)) return id;
  throw new RedisKitError(
    'ERR_REDIS_KIT_NO_IDENTITY',
    'kit.state: the request has no session; mount kit.session above kit.state, or give the option `id` of `session`',
  );
}

export function stateMiddleware(options: StateOptions<never>, deps: StateDeps): StateMiddleware {
  const scopes = new Scopes(resolveStateOptions(options), deps);
  deps.failurePolicies.record('state', 'reject');

  function state(req: IncomingMessage, _res: ServerResponse, next: Next): void {
    checkMiddlewareCall('kit.state', req, next);
    Object.assign(req, { state: new ScopesOfRequest(req, scopes) });
    next();
  }

  return Object.defineProperty(
    Object.assign(state, {
      user: (id: string) => scopes.scope('user', () => checkedIdentity("kit.state: the user's id", id)),
      session: (id: string) =>
        scopes.scope('session', () => checkedIdentity("kit.state: the session's id", id)),
    }),
    'app',
    { get: () => scopes.scope('app', () => APP_ID) },
  ) as StateMiddleware;
}
