import { asError, StoreError } from '../base/errors.ts';
import type { Deadline } from '../engine/deadline.ts';
import { checkSize } from './content.ts';
import { isSameLife } from './cookie-life.ts';
import { mergePayloads } from './merge.ts';
import { sessionDestroy } from './operations/destroy.ts';
import { sessionRead } from './operations/read.ts';
import { type SessionWriteReply, sessionWrite } from './operations/write.ts';
import {
  packPayload,
  type ReadPayload,
  type SessionMeta,
  type SessionPayload,
  unpackPayload,
} from './payload.ts';
import type { Seal } from './seal.ts';
import { type IndexedSession, type SessionDeps, UserIndex, type UserLimit } from './user-index.ts';

export interface RecordSettings {
  /** Milliseconds without use after which a session ends. */
  readonly idle: number;
  /** The `maxAge` that every cookie begins with; one that has another was given a life of its own. */
  readonly cookieMaxAge: number | undefined;
  /** Milliseconds; 0: none. */
  readonly absolute: number;
  readonly touchAfter: number;
  readonly conflicts: 'merge' | 'last-write';
  readonly maxPerUser: UserLimit | undefined;
  readonly maxBytes: number;
  readonly seal: Seal;
}

/** A session as it was last seen in the store. */
export interface StoredSession extends SessionPayload {
  /** What is stored, which others may have written parts of; the rest is what this request has read or written. */
  readonly current: SessionPayload;
  readonly revision: number;
  readonly created: number;
  /** Whose index knows it; empty for a session without a user. */
  readonly owner: string;
}

interface SessionToWrite {
  readonly handle: string;
  readonly mode: 'create' | 'update';
  readonly payload: SessionPayload;
  readonly revision: number;
  readonly owner: string;
}

/** What fits the six bytes of a time, for thousands of years to come. */
const MAX_IDLE_MS = 2 ** 46;

/** Every round somebody else has written in between, so this ends long before. */
const MAX_ROUNDS = 100;

/** Sessions in the store, without HTTP. */
export class SessionRecords {
  readonly #deps: SessionDeps;
  readonly #settings: RecordSettings;
  readonly #index: UserIndex;

  constructor(deps: SessionDeps, settings: RecordSettings) {
    this.#deps = deps;
    this.#settings = settings;
    this.#index = new UserIndex(deps);
  }

  /** The live session of an id, or undefined; its idle deadline moves with the read, once it is worth it. */
  async read(id: string, deadline?: Deadline): Promise<(StoredSession & ReadPayload) | undefined> {
    const { engine, reporter } = this.#deps;
    const { handle, key } = this.#deps.keys.sessionNames(id);
    const { data, found, ...reply } = await engine.run(sessionRead, [key], this.#settings, deadline);
    const payload = data === null ? undefined : this.#unpack(data, handle);
    if (found === 'corrupt' || (data !== null && payload === undefined)) {
      reporter.events.emit('session:corrupt', { handle });
      const message = 'a stored session cannot be read and counts as absent';
      reporter.failure('session', new StoreError('ERR_REDIS_KIT_CORRUPT', message));
    }
    if (payload === undefined) return undefined;
    reporter.events.emit('session:loaded', { handle });
    if (reply.indexUntil > 0) void this.#renewIndex(reply, handle);
    const { revision, created, owner } = reply;
    return { ...payload, current: payload, revision, created, owner };
  }

  /** Of several ids, that of the youngest live session; where none lives, the first. */
  async newestOf(ids: readonly string[], deadline: Deadline): Promise<string | undefined> {
    if (ids.length < 2) return ids[0];
    const { engine, keys } = this.#deps;
    const found = await Promise.all(
      ids.map((id) => engine.run(sessionRead, [keys.session(id)], { touchAfter: 0, idle: 0 }, deadline)),
    );
    const youngest = Math.max(...found.map(({ created }) => created));
    return ids[found.findIndex(({ created }) => created === youngest)];
  }

  /**
   * Stores a session under a new id; undefined when the id is taken. Rejects when its user has as many sessions as may
   * be; `previous`: the session that it takes the place of.
   */
  async create(
    id: string,
    payload: SessionPayload,
    deadline?: Deadline,
    previous?: { readonly id: string; readonly known: StoredSession },
  ): Promise<StoredSession | undefined> {
    const { keys, reporter } = this.#deps;
    const { handle, key } = keys.sessionNames(id);
    const owner = this.#ownerOf(payload);
    const reply = await this.#write(key, { handle, mode: 'create', payload, revision: 0, owner }, deadline);
    if (reply.outcome !== 'written') {
      reporter.events.emit('session:conflict', { handle });
      return undefined;
    }
    const { revision, created } = reply;
    const replaced =
      previous !== undefined && previous.known.owner === owner
        ? { created: previous.known.created, handle: keys.sessionHandle(previous.id) }
        : undefined;
    if (owner !== '') await this.#admit(owner, { created, handle }, reply.indexUntil, deadline, replaced);
    reporter.events.emit('session:created', { handle });
    return { ...payload, current: payload, revision, created, owner };
  }

  /** Writes a session that must still be alive, with what others have changed meanwhile; undefined when it is not. */
  async update(
    id: string,
    known: StoredSession,
    payload: SessionPayload,
    deadline?: Deadline,
  ): Promise<StoredSession | undefined> {
    const { handle, key } = this.#deps.keys.sessionNames(id);
    const { conflicts } = this.#settings;
    let { current, revision, owner: ownerBefore } = known;
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const merged = mergePayloads(known, payload, current, conflicts);
      const owner = this.#ownerOf(merged);
      const write = {
        handle,
        mode: 'update',
        payload: merged,
        revision: conflicts === 'merge' ? revision : 0,
        owner,
      } as const;
      const reply = await this.#write(key, write, deadline);
      if (reply.outcome === 'written') {
        await this.#reindex(
          ownerBefore,
          owner,
          { created: known.created, handle },
          reply.indexUntil,
          deadline,
        );
        const meta = { ...merged.meta, cookie: payload.meta.cookie };
        return { ...known, ...payload, meta, current: merged, revision: reply.revision, owner };
      }
      if (reply.outcome === 'gone') {
        this.#deps.reporter.events.emit('session:conflict', { handle });
        return undefined;
      }
      ({ revision, owner: ownerBefore } = reply);
      // What cannot be read is nothing to merge with, and is repaired by this write.
      const theirs = reply.current === null ? undefined : this.#unpack(reply.current, handle);
      current = theirs ?? known;
    }
    throw new StoreError('ERR_REDIS_KIT_SESSION_CONFLICT', 'a session was changed by others again and again');
  }

  /** `known`: as it was last seen, where the caller has seen it. */
  async destroy(id: string, known?: StoredSession, deadline?: Deadline): Promise<void> {
    const { engine, reporter } = this.#deps;
    const { handle, key } = this.#deps.keys.sessionNames(id);
    const { existed, owner, created } =
      known === undefined
        ? await engine.run(sessionDestroy, [key], undefined, deadline)
        : { ...known, existed: (await engine.delete([key], deadline)) > 0 };
    if (!existed) return;
    reporter.events.emit('session:destroyed', { handle });
    if (owner !== '') this.#forget(owner, { created, handle });
  }

  /** How long a session lives without use: as its cookie, where that was given a life of its own. */
  idleOf({ cookie, remembered }: SessionMeta): number {
    const { idle, cookieMaxAge } = this.#settings;
    const own = cookie.originalMaxAge;
    if (typeof own !== 'number' || own <= 0) return idle;
    const isOwn = remembered === true || cookieMaxAge === undefined || !isSameLife(own, cookieMaxAge);
    return isOwn ? Math.min(Math.ceil(own), MAX_IDLE_MS) : idle;
  }

  /** How long a login may be remembered: no longer than any session lives. */
  rememberable(ms: number): number {
    const { absolute } = this.#settings;
    return absolute > 0 ? Math.min(ms, absolute) : ms;
  }

  /** Moves the idle deadline of a session whose request took long. */
  async touch(id: string, deadline?: Deadline): Promise<void> {
    const { handle, key } = this.#deps.keys.sessionNames(id);
    const { data, ...reply } = await this.#deps.engine.run(
      sessionRead,
      [key],
      { touchAfter: 1, idle: 0 },
      deadline,
    );
    if (data !== null && reply.indexUntil > 0) void this.#renewIndex(reply, handle);
  }

  rotated(previousId: string, id: string): void {
    const { keys, reporter } = this.#deps;
    const [handle, previous] = [keys.sessionHandle(id), keys.sessionHandle(previousId)];
    reporter.events.emit('session:rotated', { handle, previous });
  }

  /** Tells of something that works and should be changed. */
  warn(message: string): void {
    this.#deps.reporter.warning(`kit.session: ${message}`);
  }

  /** Tells of an error that the failure policy covers. */
  failed(error: unknown): void {
    this.#deps.reporter.failure('session', asError(error));
  }

  #ownerOf({ userId }: SessionPayload): string {
    return userId === undefined ? '' : this.#deps.keys.sessionOwner(userId);
  }

  async #write(
    key: string,
    { handle, payload, ...write }: SessionToWrite,
    deadline: Deadline | undefined,
  ): Promise<SessionWriteReply> {
    const { absolute, touchAfter, maxBytes, seal } = this.#settings;
    const packed = packPayload(payload);
    // Here, since data that was merged may be larger than what either request has written.
    checkSize(packed.length, maxBytes);
    const data = seal.close(packed, handle);
    const args = { ...write, idle: this.idleOf(payload.meta), absolute, touchAfter, data };
    return this.#deps.engine.run(sessionWrite, [key], args, deadline);
  }

  /** Brings the indexes of users in line with a session that was written. */
  async #reindex(
    before: string,
    owner: string,
    session: IndexedSession,
    until: number,
    deadline: Deadline | undefined,
  ): Promise<void> {
    if (owner === before) {
      if (until > 0)
        void this.#renewIndex({ owner, created: session.created, indexUntil: until }, session.handle);
      return;
    }
    if (owner !== '') await this.#admit(owner, session, until, deadline);
    if (before !== '') this.#forget(before, session);
  }

  /** Takes a session into its user's index; where that fails it ends: one that no administrator can see must not be. */
  async #admit(
    owner: string,
    session: IndexedSession,
    until: number,
    deadline: Deadline | undefined,
    replaced?: IndexedSession,
  ): Promise<void> {
    const { engine, keys } = this.#deps;
    try {
      await this.#index.admit(owner, session, until, this.#settings.maxPerUser, replaced, deadline);
    } catch (error) {
      const key = keys.sessionOfHandle(session.handle) ?? '';
      const undone = engine.run(sessionDestroy, [key], undefined, deadline);
      await undone.catch((failed: unknown) => this.failed(failed));
      throw error;
    }
  }

  /** Not waited for: a list checks whose its sessions are, and whether they live. */
  #forget(owner: string, session: IndexedSession): void {
    void this.#index.list(owner, [session]).catch((error: unknown) => this.failed(error));
  }

  /** Not waited for: the request has its session, and the index is told again when it is next worth it. */
  async #renewIndex(
    reply: { readonly owner: string; readonly created: number; readonly indexUntil: number },
    handle: string,
  ): Promise<void> {
    try {
      await this.#index.renew(reply.owner, { created: reply.created, handle }, reply.indexUntil);
    } catch (error) {
      this.failed(error);
    }
  }

  #unpack(data: Buffer, handle: string): ReadPayload | undefined {
    return unpackPayload(this.#settings.seal.open(data, handle));
  }
}
