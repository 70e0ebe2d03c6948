import { asError, RedisKitError, StoreError } from '../base/errors.ts';
import type { Keys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import type { StoredFormat } from '../engine/reply.ts';
import { type SessionDestroyReply, sessionDestroy } from './operations/destroy.ts';
import { NEVER_TOUCH, sessionRead } from './operations/read.ts';
import { userSessionsAdd } from './operations/user-sessions-add.ts';
import { userSessionsList } from './operations/user-sessions-list.ts';

/** The parts of a kit that its sessions use. */
export interface SessionDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
}

/** The most sessions of a user, and whether a login above this limit revokes the oldest sessions or rejects. */
export interface UserLimit {
  readonly limit: number;
  readonly onExceed: 'evict-oldest' | 'reject';
}

const UNLIMITED: UserLimit = { limit: 0, onExceed: 'reject' };

/** A session in the index of its user. */
export interface IndexedSession {
  readonly created: number;
  readonly handle: string;
}

/** A session with the user to which it belongs after a write. */
interface OwnedSession {
  readonly handle: string;
  readonly owner: string;
}

interface IndexUpdate extends IndexedSession, OwnedSession {
  /** The ms until which the owner's index must list the session; 0 when the index needs no update. */
  readonly indexUntil: number;
}

interface AdmitOptions {
  readonly limit?: UserLimit | undefined;
  /** The session of the same user that the new session replaces, which is not counted. */
  readonly replaced?: IndexedSession | undefined;
  readonly deadline?: Deadline | undefined;
}

/** The index of each user's sessions. A session is written before its index, so an index may be out of date. */
export class UserIndex {
  readonly #deps: SessionDeps;

  constructor(deps: SessionDeps) {
    this.#deps = deps;
  }

  /** Prolongs a session in its index. Not awaited: the request does not need the index, and a later use tries again. */
  renew(update: IndexUpdate): void {
    void this.#add(update, {}).catch((error: unknown) => this.#failed(error));
  }

  /** Removes a session from an index. Not awaited: a list skips sessions that have ended or changed users. */
  forget(owner: string, session: IndexedSession): void {
    void this.list(owner, [session]).catch((error: unknown) => this.#failed(error));
  }

  /** Updates the indexes of the old and the new user after a session was written. */
  async update(update: IndexUpdate, ownerBefore: string, options: AdmitOptions): Promise<void> {
    if (update.owner === ownerBefore) {
      if (update.indexUntil > 0) this.renew(update);
      return;
    }
    if (update.owner !== '') await this.admit(update, options);
    if (ownerBefore !== '') this.forget(ownerBefore, update);
  }

  /**
   * Adds a new session to the index of its user. At the user's limit, either the oldest sessions are revoked or the
   * promise rejects. After any error, the new session is destroyed.
   */
  async admit(update: IndexUpdate, options: AdmitOptions): Promise<void> {
    try {
      await this.#admit(update, options);
    } catch (error) {
      await this.#destroyUnlisted(update);
      throw error;
    }
  }

  /** Waits for a write that gives a session its user. Without a reply, the write may still run, and no index is updated. */
  async destroyIfLost<Reply>(write: Promise<Reply>, session: OwnedSession): Promise<Reply> {
    try {
      return await write;
    } catch (error) {
      if (error instanceof StoreError) await this.#destroyUnlisted(session);
      throw error;
    }
  }

  /**
   * Destroys a session whose user has no entry for it in the index, since `revokeAll()` could not find it. Without the
   * deadline of the request, which may have run out. A late write of the session does not undo this: a connection keeps
   * the order of its commands.
   */
  async #destroyUnlisted({ handle, owner }: OwnedSession): Promise<void> {
    const { engine, keys } = this.#deps;
    const key = keys.sessionOfHandle(handle) ?? '';
    const destroyed = engine.run(sessionDestroy, [key], { owner });
    await destroyed.catch((error: unknown) => this.#failed(error));
  }

  async #admit(update: IndexUpdate, options: AdmitOptions): Promise<void> {
    const { limit = UNLIMITED, deadline } = options;
    const first = await this.#add(update, { ...options, limit: { ...limit, onExceed: 'reject' } });
    if (first.added) return;
    // The index may still contain sessions that have ended or changed users, which must not count.
    const listed = await Promise.all(
      first.others.map((other) => this.#isListed(other, update.owner, deadline)),
    );
    const dead = first.others.filter((_, index) => listed[index] === false);
    if (dead.length > 0) await this.list(update.owner, dead);
    const { added, others } = await this.#add(update, { ...options, limit });
    if (!added) {
      throw new RedisKitError(
        'ERR_REDIS_KIT_SESSION_LIMIT',
        `the user has ${limit.limit} sessions already, and no more may be begun`,
      );
    }
    // Without the deadline: the sessions are in no index any more, so they must end.
    await Promise.all(others.map(({ handle }) => this.revoke(handle, update.owner)));
  }

  /**
   * Destroys a session by its handle; undefined when no live session has the handle, or the session belongs to another
   * user than `owner`. The caller updates the index.
   */
  async revoke(handle: string, owner?: string): Promise<SessionDestroyReply | undefined> {
    const { engine, keys, reporter } = this.#deps;
    const key = keys.sessionOfHandle(handle);
    if (key === undefined) return undefined;
    const revoked = await engine.run(sessionDestroy, [key], { owner });
    if (!revoked.existed) return undefined;
    reporter.events.emit('session:revoked', { handle });
    return revoked;
  }

  /** Removes sessions from an index and returns the others, oldest first. Some of the others may have ended. */
  async list(owner: string, forget: readonly IndexedSession[] = []): Promise<readonly IndexedSession[]> {
    const { engine, keys } = this.#deps;
    const args = { forget: forget.map(memberOf) };
    const { found, members } = await engine.run(userSessionsList, [keys.userSessions(owner)], args);
    this.#checkFormat(found);
    return members.map(sessionOf);
  }

  async #add(
    update: IndexUpdate,
    { limit = UNLIMITED, replaced, deadline }: AdmitOptions,
  ): Promise<{ readonly added: boolean; readonly others: readonly IndexedSession[] }> {
    const { engine, keys } = this.#deps;
    const replaces = replaced === undefined ? '' : memberOf(replaced);
    const args = { ...limit, member: memberOf(update), until: update.indexUntil, replaces };
    const reply = await engine.run(userSessionsAdd, [keys.userSessions(update.owner)], args, deadline);
    this.#checkFormat(reply.found);
    return { added: reply.added, others: reply.others.map(sessionOf) };
  }

  /** Whether a session is alive and belongs to the user. */
  async #isListed(
    { handle }: IndexedSession,
    owner: string,
    deadline: Deadline | undefined,
  ): Promise<boolean> {
    const { engine, keys } = this.#deps;
    const key = keys.sessionOfHandle(handle) ?? '';
    const reply = await engine.run(sessionRead, [key], NEVER_TOUCH, deadline);
    return reply.data !== null && reply.owner === owner;
  }

  #checkFormat(found: StoredFormat): void {
    if (found !== 'corrupt') return;
    const message =
      "a user's index of sessions cannot be read and begins empty; the sessions in it are not listed";
    this.#failed(new StoreError('ERR_REDIS_KIT_CORRUPT', message));
  }

  #failed(error: unknown): void {
    this.#deps.reporter.failure('session', asError(error));
  }
}

/** The digits of the creation time in a member. The number is fixed, so that members sort by age. */
const CREATED_DIGITS = 15;

function memberOf({ created, handle }: IndexedSession): string {
  return String(created).padStart(CREATED_DIGITS, '0') + handle;
}

function sessionOf(member: string): IndexedSession {
  return { created: Number(member.slice(0, CREATED_DIGITS)), handle: member.slice(CREATED_DIGITS) };
}
