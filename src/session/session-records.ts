import { asError, StoreError } from '../base/errors.ts';
import type { Deadline } from '../engine/deadline.ts';
import { isSameMaxAge } from './cookie-lifetime.ts';
import { mergePayloads } from './merge.ts';
import { sessionDestroy } from './operations/destroy.ts';
import type { SessionRecord } from './operations/format.ts';
import { NEVER_TOUCH, sessionRead } from './operations/read.ts';
import { type SessionWriteArgs, type SessionWriteReply, sessionWrite } from './operations/write.ts';
import {
  checkSize,
  type ParsedPayload,
  packPayload,
  type SessionMeta,
  type SessionPayload,
  unpackPayload,
} from './payload.ts';
import type { Seal } from './seal.ts';
import { type SessionDeps, UserIndex, type UserLimit } from './user-index.ts';

export interface RecordSettings {
  /** Milliseconds without use after which a session expires. */
  readonly idle: number;
  /** The `maxAge` of new cookies. A session whose cookie has another `maxAge` expires after that instead of `idle`. */
  readonly cookieMaxAge: number | undefined;
  /** Milliseconds after its creation at which a session expires even if it is used; 0 for no such limit. */
  readonly absolute: number;
  readonly touchAfter: number;
  readonly conflicts: 'merge' | 'last-write';
  readonly maxPerUser: UserLimit | undefined;
  readonly maxBytes: number;
  readonly seal: Seal;
}

/** A session as its request last loaded or saved it, which is the base of the next merge. */
export interface StoredSession extends SessionPayload, Pick<SessionRecord, 'created' | 'revision' | 'owner'> {
  /** The payload in the store, which may include changes of other requests. */
  readonly current: SessionPayload;
}

/** The old session of a login, which a new session replaces. */
export interface PreviousSession {
  readonly id: string;
  readonly stored: StoredSession;
}

interface RecordToWrite extends Pick<SessionWriteArgs, 'mode' | 'revision' | 'owner'> {
  readonly handle: string;
  readonly payload: SessionPayload;
}

/** The longest idle time: an expiry that is computed from it fits the six bytes of a stored time. */
const MAX_IDLE_MS = 2 ** 46;

/** The most attempts of an update. Another attempt is needed only if another request saved the session meanwhile. */
const MAX_ROUNDS = 100;

/** Loads, saves and destroys sessions in the store, independently of HTTP. */
export class SessionRecords {
  readonly #deps: SessionDeps;
  readonly #settings: RecordSettings;
  readonly #index: UserIndex;

  constructor(deps: SessionDeps, settings: RecordSettings) {
    this.#deps = deps;
    this.#settings = settings;
    this.#index = new UserIndex(deps);
  }

  /** Loads the live session of an id; undefined when the id has none. Moves its idle deadline if that is due. */
  async load(id: string, deadline?: Deadline): Promise<(StoredSession & ParsedPayload) | undefined> {
    const { engine, keys, reporter } = this.#deps;
    const { handle, key } = keys.sessionNames(id);
    const { data, found, ...reply } = await engine.run(sessionRead, [key], this.#settings, deadline);
    const payload = data === null ? undefined : this.#unpack(data, handle);
    if (found === 'corrupt' || (data !== null && payload === undefined)) {
      reporter.events.emit('session:corrupt', { handle });
      const message = 'a stored session cannot be read and counts as absent';
      reporter.failure('session', new StoreError('ERR_REDIS_KIT_CORRUPT', message));
    }
    if (payload === undefined) return undefined;
    reporter.events.emit('session:loaded', { handle });
    if (reply.indexUntil > 0) this.#index.renew({ ...reply, handle });
    const { revision, created, owner } = reply;
    return { ...payload, current: payload, revision, created, owner };
  }

  /** Returns the id whose live session was created last; the first id when no session is alive. */
  async newestOf(ids: readonly string[], deadline: Deadline): Promise<string | undefined> {
    if (ids.length < 2) return ids[0];
    const { engine, keys } = this.#deps;
    const replies = await Promise.all(
      ids.map((id) => engine.run(sessionRead, [keys.session(id)], NEVER_TOUCH, deadline)),
    );
    const newest = Math.max(...replies.map(({ created }) => created));
    return ids[replies.findIndex(({ created }) => created === newest)];
  }

  /** Stores a session under a new id; undefined when the id is in use. Rejects when its user has too many sessions. */
  async create(
    id: string,
    payload: SessionPayload,
    deadline?: Deadline,
    previous?: PreviousSession,
  ): Promise<StoredSession | undefined> {
    const { keys, reporter } = this.#deps;
    const { handle, key } = keys.sessionNames(id);
    const owner = this.#ownerOf(payload);
    const reply = await this.#write(key, { handle, mode: 'create', payload, revision: 0, owner }, deadline);
    if (reply.outcome !== 'written') {
      reporter.events.emit('session:conflict', { handle });
      return undefined;
    }
    const { revision, created, indexUntil } = reply;
    const replaced =
      previous !== undefined && previous.stored.owner === owner
        ? { created: previous.stored.created, handle: keys.sessionHandle(previous.id) }
        : undefined;
    if (owner !== '') {
      const limit = this.#settings.maxPerUser;
      await this.#index.admit({ owner, created, handle, indexUntil }, { limit, replaced, deadline });
    }
    reporter.events.emit('session:created', { handle });
    return { ...payload, current: payload, revision, created, owner };
  }

  /** Saves a session, merged with other requests' changes since `stored`; undefined when the session has ended. */
  async update(
    id: string,
    stored: StoredSession,
    payload: SessionPayload,
    deadline?: Deadline,
  ): Promise<StoredSession | undefined> {
    const { handle, key } = this.#deps.keys.sessionNames(id);
    const { conflicts, maxPerUser: limit } = this.#settings;
    const { created } = stored;
    let { current, revision, owner: ownerBefore } = stored;
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const merged = mergePayloads({ base: stored, mine: payload, theirs: current }, conflicts);
      const owner = this.#ownerOf(merged);
      const expected = conflicts === 'merge' ? revision : 0;
      const record = { handle, mode: 'update', payload: merged, revision: expected, owner } as const;
      const reply = await this.#write(key, record, deadline);
      if (reply.outcome === 'written') {
        const { indexUntil } = reply;
        await this.#index.update({ owner, created, handle, indexUntil }, ownerBefore, { limit, deadline });
        const meta = { ...merged.meta, cookie: payload.meta.cookie };
        return { ...stored, ...payload, meta, current: merged, revision: reply.revision, owner };
      }
      if (reply.outcome === 'gone') {
        this.#deps.reporter.events.emit('session:conflict', { handle });
        return undefined;
      }
      ({ revision, owner: ownerBefore } = reply);
      // A corrupt payload cannot be merged, so the next round replaces it.
      const theirs = reply.current === null ? undefined : this.#unpack(reply.current, handle);
      current = theirs ?? stored;
    }
    throw new StoreError(
      'ERR_REDIS_KIT_SESSION_CONFLICT',
      'a session was changed by other requests again and again',
    );
  }

  /** Destroys a session. `stored`: the session as the caller last loaded or saved it; if absent, the user is read. */
  async destroy(id: string, stored?: StoredSession, deadline?: Deadline): Promise<void> {
    const { engine, keys, reporter } = this.#deps;
    const { handle, key } = keys.sessionNames(id);
    const { existed, owner, created } =
      stored === undefined
        ? await engine.run(sessionDestroy, [key], undefined, deadline)
        : { ...stored, existed: (await engine.delete([key], deadline)) > 0 };
    if (!existed) return;
    reporter.events.emit('session:destroyed', { handle });
    if (owner !== '') this.#index.forget(owner, { created, handle });
  }

  /** Milliseconds without use after which a session expires: the `maxAge` set by its handler or login, else `idle`. */
  idleOf({ cookie, remembered }: SessionMeta): number {
    const { idle, cookieMaxAge } = this.#settings;
    const maxAge = cookie.originalMaxAge;
    if (typeof maxAge !== 'number' || maxAge <= 0) return idle;
    const isOwn = remembered === true || cookieMaxAge === undefined || !isSameMaxAge(maxAge, cookieMaxAge);
    return isOwn ? Math.min(Math.ceil(maxAge), MAX_IDLE_MS) : idle;
  }

  /** The milliseconds for which a login is remembered: `ms`, but no longer than `absolute`. */
  rememberable(ms: number): number {
    const { absolute } = this.#settings;
    return absolute > 0 ? Math.min(ms, absolute) : ms;
  }

  /** Moves the idle deadline of a session without loading it, as at the end of a long request. */
  async touch(id: string, deadline?: Deadline): Promise<void> {
    const { engine, keys } = this.#deps;
    const { handle, key } = keys.sessionNames(id);
    const { data, ...reply } = await engine.run(sessionRead, [key], { touchAfter: 1, idle: 0 }, deadline);
    if (data !== null && reply.indexUntil > 0) this.#index.renew({ ...reply, handle });
  }

  emitRotated(previousId: string, id: string): void {
    const { keys, reporter } = this.#deps;
    const [handle, previous] = [keys.sessionHandle(id), keys.sessionHandle(previousId)];
    reporter.events.emit('session:rotated', { handle, previous });
  }

  /** Logs a mistake of the app that does not fail the request. */
  warn(message: string): void {
    this.#deps.reporter.warning(`kit.session: ${message}`);
  }

  /** Emits and logs an error. */
  reportFailure(error: unknown): void {
    this.#deps.reporter.failure('session', asError(error));
  }

  #ownerOf({ userId }: SessionPayload): string {
    return userId === undefined ? '' : this.#deps.keys.sessionOwner(userId);
  }

  async #write(
    key: string,
    { handle, payload, ...record }: RecordToWrite,
    deadline: Deadline | undefined,
  ): Promise<SessionWriteReply> {
    const { absolute, touchAfter, maxBytes, seal } = this.#settings;
    const packed = packPayload(payload);
    // Checked after the merge, since merged data may be larger than the data of either request.
    checkSize(packed.length, maxBytes);
    const data = seal.close(packed, handle);
    const args = { ...record, idle: this.idleOf(payload.meta), absolute, touchAfter, data };
    return this.#deps.engine.run(sessionWrite, [key], args, deadline);
  }

  #unpack(data: Buffer, handle: string): ParsedPayload | undefined {
    return unpackPayload(this.#settings.seal.open(data, handle));
  }
}
