import type { IncomingMessage } from 'node:http';
import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';
import { OptionReader } from '../base/option-reader.ts';
import { isKept } from './kit-session.ts';
import { sessionRead } from './operations/read.ts';
import { unpackPayload } from './payload.ts';
import type { Seal } from './seal.ts';
import { type IndexedSession, type SessionDeps, UserIndex } from './user-index.ts';

/** A session of a user, as the list shows it. */
export interface SessionInfo {
  /** Names the session without giving it away: a hash of its id. */
  readonly handle: string;
  readonly createdAt: Date;
  /** As exact as `touchAfter`. */
  readonly lastSeenAt: Date;
  /** When it ends unless it is used before. */
  readonly expiresAt: Date;
  /** Where the login came from; absent where this kit cannot read what is encrypted. */
  readonly ip?: string | undefined;
  readonly userAgent?: string | undefined;
}

/** The sessions that have a `req.session.userId`, for account pages and administrators. */
export interface SessionAdmin {
  /** The live sessions of a user, oldest first. */
  list(userId: string): Promise<SessionInfo[]>;
  /** How many live sessions a user has; without a user, how many there are of all (visits every key: SCAN). */
  count(userId?: string): Promise<number>;
  /** Ends a session at once; false when there is none. A request that it is in can save nothing any more. */
  revoke(handle: string): Promise<boolean>;
  /** Ends all of a user's sessions, or all but one; resolves to how many. A login at the same time counts as later. */
  revokeAll(userId: string, options?: { readonly except?: string | undefined }): Promise<number>;
  /** The handle of a request's session, for `except` and to mark it in a list; undefined when none is stored. */
  handleOf(req: IncomingMessage): string | undefined;
}

export class SessionAdministration implements SessionAdmin {
  readonly #deps: SessionDeps;
  readonly #index: UserIndex;
  readonly #seals: ReadonlySet<Seal>;

  /** `seals`: of the kit's session middlewares, which may be made later. */
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
    const ended = await this.#index.end(handle);
    if (ended === undefined) return false;
    if (ended.owner !== '') await this.#index.list(ended.owner, [{ created: ended.created, handle }]);
    return true;
  }

  async revokeAll(userId: string, options: { readonly except?: string | undefined } = {}): Promise<number> {
    const except = new OptionReader('kit.sessions.revokeAll', options, ['except']).string('except');
    const owner = this.#ownerOf(userId);
    const targets = (await this.#index.list(owner)).filter(({ handle }) => handle !== except);
    const ended = await Promise.all(targets.map(({ handle }) => this.#index.end(handle)));
    if (targets.length > 0) await this.#index.list(owner, targets);
    return ended.filter((each) => each !== undefined).length;
  }

  handleOf(req: IncomingMessage): string | undefined {
    const { session, sessionID: id } = req as { session?: unknown; sessionID?: unknown };
    if (!session || typeof id !== 'string' || isKept(req, id) === false) return undefined;
    return this.#deps.keys.sessionHandle(id);
  }

  async list(userId: string): Promise<SessionInfo[]> {
    const owner = this.#ownerOf(userId);
    const indexed = await this.#index.list(owner);
    const infos = await Promise.all(indexed.map((session) => this.#infoOf(session, owner)));
    // Their end, or their new user, has not reached the index.
    const dead = indexed.filter((_, at) => infos[at] === undefined);
    if (dead.length > 0) await this.#index.list(owner, dead);
    return infos.filter((info) => info !== undefined);
  }

  async #infoOf({ handle }: IndexedSession, owner: string): Promise<SessionInfo | undefined> {
    const { engine, keys } = this.#deps;
    const key = keys.sessionOfHandle(handle);
    if (key === undefined) return undefined;
    const { data, created, seen, expires, ...reply } = await engine.run(sessionRead, [key], {
      touchAfter: 0,
      idle: 0,
    });
    if (data === null || reply.owner !== owner) return undefined;
    const times = { createdAt: new Date(created), lastSeenAt: new Date(seen), expiresAt: new Date(expires) };
    for (const seal of this.#seals) {
      const payload = unpackPayload(seal.open(data, handle));
      if (payload !== undefined) {
        const { ip, userAgent } = payload.meta;
        return { handle, ...times, ip, userAgent };
      }
    }
    return { handle, ...times };
  }

  #ownerOf(userId: unknown): string {
    if (typeof userId === 'string' && userId !== '') return this.#deps.keys.sessionOwner(userId);
    throw new ConfigError(
      `kit.sessions: the user's id is ${describe(userId)}; it must be a string that is not empty`,
    );
  }
}
