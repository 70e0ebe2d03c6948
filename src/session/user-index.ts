import { RedisKitError, StoreError } from '../base/errors.ts';
import type { Keys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import type { StoredFormat } from '../engine/reply.ts';
import { type SessionDestroyReply, sessionDestroy } from './operations/destroy.ts';
import { sessionRead } from './operations/read.ts';
import { userSessionsAdd } from './operations/user-sessions-add.ts';
import { userSessionsList } from './operations/user-sessions-list.ts';

/** What every session middleware of a kit shares. */
export interface SessionDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
}

/** How many sessions a user may have, and what happens at the next login. */
export interface UserLimit {
  readonly limit: number;
  readonly onExceed: 'evict-oldest' | 'reject';
}

const ANY_NUMBER: UserLimit = { limit: 0, onExceed: 'reject' };

/** A session as its user's index knows it. */
export interface IndexedSession {
  readonly created: number;
  readonly handle: string;
}

/** The sessions of each user that has logged in. A session is written before its index hears of it. */
export class UserIndex {
  readonly #deps: SessionDeps;

  constructor(deps: SessionDeps) {
    this.#deps = deps;
  }

  /** Tells the index that a session lives until then. */
  async renew(owner: string, session: IndexedSession, until: number): Promise<void> {
    await this.#add(owner, session, until, ANY_NUMBER, undefined, undefined);
  }

  /**
   * Takes a new session in; where the user has as many as may be, others end for it, or this rejects. `previous` is
   * the session that it takes the place of, where that is the same user's.
   */
  async admit(
    owner: string,
    session: IndexedSession,
    until: number,
    limit: UserLimit = ANY_NUMBER,
    previous?: IndexedSession,
    deadline?: Deadline,
  ): Promise<void> {
    const asked = await this.#add(
      owner,
      session,
      until,
      { ...limit, onExceed: 'reject' },
      previous,
      deadline,
    );
    if (asked.added) return;
    // Some of them may have ended without their index hearing of it.
    const alive = await Promise.all(asked.others.map((other) => this.#isAlive(other, deadline)));
    const dead = asked.others.filter((_, index) => alive[index] === false);
    if (dead.length > 0) await this.list(owner, dead);
    const { added, others } = await this.#add(owner, session, until, limit, previous, deadline);
    if (!added) {
      throw new RedisKitError(
        'ERR_REDIS_KIT_SESSION_LIMIT',
        `the user has ${limit.limit} sessions already, and no more may be begun`,
      );
    }
    await Promise.all(others.map(({ handle }) => this.end(handle, deadline)));
  }

  /** Ends a session by its handle; undefined when there is none. Its owner's index is left to the caller. */
  async end(handle: string, deadline?: Deadline): Promise<SessionDestroyReply | undefined> {
    const { engine, keys, reporter } = this.#deps;
    const key = keys.sessionOfHandle(handle);
    if (key === undefined) return undefined;
    const ended = await engine.run(sessionDestroy, [key], undefined, deadline);
    if (!ended.existed) return undefined;
    reporter.events.emit('session:revoked', { handle });
    return ended;
  }

  /** Forgets some and answers with the others, oldest first; there may be some that have ended among them. */
  async list(owner: string, forget: readonly IndexedSession[] = []): Promise<readonly IndexedSession[]> {
    const { engine, keys } = this.#deps;
    const args = { forget: forget.map(memberOf) };
    const { found, members } = await engine.run(userSessionsList, [keys.userSessions(owner)], args);
    this.#checkFound(found);
    return members.map(sessionOf);
  }

  async #add(
    owner: string,
    session: IndexedSession,
    until: number,
    limit: UserLimit,
    previous: IndexedSession | undefined,
    deadline: Deadline | undefined,
  ): Promise<{ readonly added: boolean; readonly others: readonly IndexedSession[] }> {
    const { engine, keys } = this.#deps;
    const replaces = previous === undefined ? '' : memberOf(previous);
    const args = { ...limit, member: memberOf(session), until, replaces };
    const reply = await engine.run(userSessionsAdd, [keys.userSessions(owner)], args, deadline);
    this.#checkFound(reply.found);
    return { added: reply.added, others: reply.others.map(sessionOf) };
  }

  async #isAlive({ handle }: IndexedSession, deadline: Deadline | undefined): Promise<boolean> {
    const { engine, keys } = this.#deps;
    const key = keys.sessionOfHandle(handle) ?? '';
    return (await engine.run(sessionRead, [key], { touchAfter: 0, idle: 0 }, deadline)).data !== null;
  }

  #checkFound(found: StoredFormat): void {
    if (found !== 'corrupt') return;
    const message =
      "a user's index of sessions could not be read and begins anew; what it knew is not listed";
    this.#deps.reporter.failure('session', new StoreError('ERR_REDIS_KIT_CORRUPT', message));
  }
}

/** 15 digits, so that members sort by age. */
const CREATED_DIGITS = 15;

function memberOf({ created, handle }: IndexedSession): string {
  return String(created).padStart(CREATED_DIGITS, '0') + handle;
}

function sessionOf(member: string): IndexedSession {
  return { created: Number(member.slice(0, CREATED_DIGITS)), handle: member.slice(CREATED_DIGITS) };
}
