import type { IncomingMessage } from 'node:http';
import { OptionReader } from '../base/option-reader.ts';
import { checkedUserId } from './login.ts';
import { NEVER_TOUCH, sessionRead } from './operations/read.ts';
import { parsePayload } from './payload.ts';
import { requestSessionOf } from './request-session.ts';
import type { Seal } from './seal.ts';
import { type IndexedSession, type SessionDeps, UserIndex } from './user-index.ts';

/** A session in the list of a user. */
export interface SessionInfo {
  /** A hash of the session id, which identifies the session without revealing the id. */
  readonly handle: string;
  readonly createdAt: Date;
  /** The stored time of the last use. The true last use may be up to `touchAfter` later. */
  readonly lastSeenAt: Date;
  /** When the session expires if it is not used again. */
  readonly expiresAt: Date;
  /** The client's address when the session got its `userId`; absent if this kit has no key for an encrypted session. */
  readonly ip?: string | undefined;
  readonly userAgent?: string | undefined;
}

/** Manages the sessions that have a `userId`, for account pages and administrators. */
export interface SessionAdmin {
  /** The live sessions of a user, oldest first. */
  list(userId: string): Promise<SessionInfo[]>;
  /** The number of live sessions of a user; without a user, of all sessions, which visits every key (SCAN). */
  count(userId?: string): Promise<number>;
  /** Ends a session at once: requests in progress cannot save the session. Resolves to false for an unknown handle. */
  revoke(handle: string): Promise<boolean>;
  /** Ends all sessions of a user but `except`. Resolves to their number. A session of a parallel login may survive. */
  revokeAll(userId: string, options?: { readonly except?: string | undefined }): Promise<number>;
  /** The handle of a request's session, for `except` or to mark it in a list; undefined when no session is stored. */
  handleOf(req: IncomingMessage): string | undefined;
}

export class SessionAdministration implements SessionAdmin {
  readonly #deps: SessionDeps;
  readonly #index: UserIndex;
  readonly #seals: ReadonlySet<Seal>;

  /** `seals`: the seals of the kit's session middleware, each added when its middleware is created. */
  constructor(deps: SessionDeps, seals: ReadonlySet<Seal>) {
    this.#deps = deps;
    this.#index = new UserIndex(deps);
    this.#seals = seals;
  }

  async count(userId?: string): Promise<number> {
    const { engine, keys } = this.#deps;
    if (userId !== undefined) return (await this.list(userId)).length;
    let count = 0;
    for await (const page of engine.scan(keys.sessionPattern())) count += page.length;
    return count;
  }

  async revoke(handle: string): Promise<boolean> {
    const revoked = await this.#index.revoke(handle);
    if (revoked === undefined) return false;
    const { owner, created } = revoked;
    if (owner !== '') await this.#index.list(owner, [{ created, handle }]);
    return true;
  }

  async revokeAll(userId: string, options: { readonly except?: string | undefined } = {}): Promise<number> {
    const except = new OptionReader('kit.sessions.revokeAll', options, ['except']).string('except');
    const owner = this.#ownerOf(userId);
    const targets = (await this.#index.list(owner)).filter(({ handle }) => handle !== except);
    const revoked = await Promise.all(targets.map(({ handle }) => this.#index.revoke(handle, owner)));
    if (targets.length > 0) await this.#index.list(owner, targets);
    return revoked.filter((each) => each !== undefined).length;
  }

  handleOf(req: IncomingMessage): string | undefined {
    const { session, sessionID: id } = req as { session?: unknown; sessionID?: unknown };
    if (!session || typeof id !== 'string') return undefined;
    const request = requestSessionOf(req);
    // Without `kit.session`, the app's own express-session has loaded the session, which may or may not be stored.
    if (request !== undefined && !request.stored.has(id)) return undefined;
    return this.#deps.keys.sessionHandle(id);
  }

  async list(userId: string): Promise<SessionInfo[]> {
    const owner = this.#ownerOf(userId);
    const indexed = await this.#index.list(owner);
    const infos = await Promise.all(indexed.map((session) => this.#infoOf(session, owner)));
    // The index may still contain sessions that have expired or now belong to another user.
    const dead = indexed.filter((_, at) => infos[at] === undefined);
    if (dead.length > 0) await this.#index.list(owner, dead);
    return infos.filter((info) => info !== undefined);
  }

  async #infoOf({ handle }: IndexedSession, owner: string): Promise<SessionInfo | undefined> {
    const { engine, keys } = this.#deps;
    const key = keys.sessionOfHandle(handle);
    if (key === undefined) return undefined;
    const { data, created, seen, expires, ...reply } = await engine.run(sessionRead, [key], NEVER_TOUCH);
    if (data === null || reply.owner !== owner) return undefined;
    const times = { createdAt: new Date(created), lastSeenAt: new Date(seen), expiresAt: new Date(expires) };
    for (const seal of this.#seals) {
      const payload = parsePayload(seal.open(data, handle));
      if (payload !== undefined) {
        const { ip, userAgent } = payload.meta;
        return { handle, ...times, ip, userAgent };
      }
    }
    return { handle, ...times };
  }

  #ownerOf(userId: unknown): string {
    return this.#deps.keys.sessionOwner(checkedUserId('kit.sessions', userId));
  }
}
