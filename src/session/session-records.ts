import { asError, StoreError } from '../base/errors.ts';
import type { Deadline } from '../engine/deadline.ts';
import { sessionDestroy } from './operations/destroy.ts';
import type { SessionRecord } from './operations/format.ts';
import { NEVER_TOUCH, sessionRead } from './operations/read.ts';
import { KEEP_OWNER } from './operations/write.ts';
import { parsePayload, type SessionMeta, type SessionPayload } from './payload.ts';
import { idleOf, type RecordSettings } from './record-settings.ts';
import { RecordWriter, type SessionNames, type StoredSession } from './record-writer.ts';
import { type SessionDeps, UserIndex } from './user-index.ts';

export type { StoredSession } from './record-writer.ts';

/** A live session whose data is opened and parsed only when it is used. */
export interface UnparsedSession extends Pick<SessionRecord, 'created' | 'idle' | 'revision' | 'owner'> {
  /** Whether a move of the idle deadline was due. It has been moved, unless the session was read without side effects. */
  readonly isTouchDue: boolean;
  /**
   * Opens and parses the data once. Returns undefined, and reports it, for data that cannot be read. Such a session counts
   * as absent.
   */
  parse(): StoredSession | undefined;
}

/** The old session of a login, which a new session replaces. */
export interface PreviousSession {
  readonly id: string;
  readonly stored: StoredSession;
}

/** Loads, saves and destroys sessions in the store, independently of HTTP. */
export class SessionRecords {
  readonly #deps: SessionDeps;
  readonly #settings: RecordSettings;
  readonly #index: UserIndex;
  readonly #writer: RecordWriter;

  constructor(deps: SessionDeps, settings: RecordSettings) {
    this.#deps = deps;
    this.#settings = settings;
    this.#index = new UserIndex(deps);
    this.#writer = new RecordWriter(deps.engine, settings);
  }

  /** Loads the live session of an id; undefined when the id has none. Moves its idle deadline if that is due. */
  async load(id: string, deadline?: Deadline): Promise<StoredSession | undefined> {
    return (await this.read(this.#deps.keys.sessionNames(id), true, deadline))?.parse();
  }

  /** Like `load`, but does not parse the session. With `moves: false`, the read has no side effects. */
  async read(names: SessionNames, moves: boolean, deadline?: Deadline): Promise<UnparsedSession | undefined> {
    const { handle, key } = names;
    const { touchAfter, idle: usual } = this.#settings;
    const args = { touchAfter, idle: usual, moves };
    const reply = await this.#deps.engine.run(sessionRead, [key], args, deadline);
    const { data, created, idle, revision, owner, isTouchDue } = reply;
    if (data === null) {
      if (reply.found === 'corrupt') this.#reportCorrupt(handle);
      return undefined;
    }
    this.#deps.reporter.events.emit('session:loaded', { handle });
    if (reply.indexUntil > 0) this.#index.renew({ created, owner, indexUntil: reply.indexUntil, handle });
    const header = { created, idle, revision, owner };
    let unopened: Buffer | undefined = data;
    let stored: ReturnType<UnparsedSession['parse']>;
    const parse = () => {
      if (unopened !== undefined) stored = this.#parse(header, unopened, names);
      // The bytes may be a view of a large buffer of the socket, which a long request must not keep.
      unopened = undefined;
      return stored;
    };
    return { created, idle, revision, owner, isTouchDue, parse };
  }

  /** Returns the id whose live session was created last; the first id when no session is alive. */
  async newestOf<Id extends SessionNames>(ids: readonly [Id, ...Id[]], deadline: Deadline): Promise<Id> {
    const { engine } = this.#deps;
    const replies = await Promise.all(
      ids.map(({ key }) => engine.run(sessionRead, [key], NEVER_TOUCH, deadline)),
    );
    const newest = Math.max(...replies.map(({ created }) => created));
    return ids[replies.findIndex(({ created }) => created === newest)] ?? ids[0];
  }

  /** Stores a session under a new id; undefined when the id is in use. Rejects when its user has too many sessions. */
  async create(
    id: string,
    payload: SessionPayload,
    deadline?: Deadline,
    previous?: PreviousSession,
  ): Promise<StoredSession | undefined> {
    const { keys, reporter } = this.#deps;
    const names = keys.sessionNames(id);
    const { handle } = names;
    const owner = this.#ownerOf(payload);
    const write = this.#writer.create(names, payload, owner, deadline);
    const reply = await (owner === '' ? write : this.#index.destroyIfLost(write, { handle, owner }));
    if (reply.outcome !== 'written') {
      reporter.events.emit('session:conflict', { handle });
      return undefined;
    }
    const { revision, created, idle, indexUntil } = reply;
    const replaced =
      previous !== undefined && previous.stored.owner === owner
        ? { created: previous.stored.created, handle: keys.sessionHandle(previous.id) }
        : undefined;
    if (owner !== '') {
      const limit = this.#settings.maxPerUser;
      await this.#index.admit({ owner, created, handle, indexUntil }, { limit, replaced, deadline });
    }
    reporter.events.emit('session:created', { handle });
    return { ...payload, created, idle, revision, owner, names, isCurrent: true };
  }

  /**
   * Saves the keys that this request has changed since `stored`; undefined when the session has ended. With
   * `conflicts: 'last-write'`, saves all keys.
   */
  async update(
    stored: StoredSession,
    payload: SessionPayload,
    deadline?: Deadline,
  ): Promise<StoredSession | undefined> {
    const { created, names } = stored;
    const { handle } = names;
    const { conflicts, maxPerUser: limit } = this.#settings;
    const isSameUser = conflicts === 'merge' && payload.userId === stored.userId;
    const { content, userId } = payload;
    const saved = { meta: { ...stored.meta, ...payload.meta }, content, userId };
    const change = { stored, payload: saved, owner: isSameUser ? KEEP_OWNER : this.#ownerOf(payload) };
    const write = this.#writer.update(change, deadline);
    const hasNewUser = !isSameUser && change.owner !== '' && change.owner !== stored.owner;
    const reply = await (hasNewUser
      ? this.#index.destroyIfLost(write, { handle, owner: change.owner })
      : write);
    if (reply.outcome !== 'written') {
      this.#deps.reporter.events.emit('session:conflict', { handle });
      return undefined;
    }
    const { idle, revision, indexUntil, ownerBefore } = reply;
    const owner = isSameUser ? ownerBefore : change.owner;
    await this.#index.update({ owner, created, handle, indexUntil }, ownerBefore, { limit, deadline });
    return { meta: saved.meta, content, userId, created, idle, revision, owner, names, isCurrent: true };
  }

  /** Destroys a session. `stored`: the session as the caller last loaded or saved it; if absent, the user is read. */
  async destroy(id: string, stored?: StoredSession, deadline?: Deadline): Promise<void> {
    const { engine, keys, reporter } = this.#deps;
    const { handle, key } = stored?.names ?? keys.sessionNames(id);
    const { existed, owner, created } =
      stored === undefined
        ? await engine.run(sessionDestroy, [key], {}, deadline)
        : { ...stored, existed: (await engine.delete([key], deadline)) > 0 };
    if (!existed) return;
    reporter.events.emit('session:destroyed', { handle });
    if (owner !== '') this.#index.forget(owner, { created, handle });
  }

  /** Milliseconds without use after which a session expires: the `maxAge` set by its handler or login, else `idle`. */
  idleOf(meta: SessionMeta): number {
    return idleOf(meta, this.#settings);
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

  #parse(
    { created, idle, revision, owner }: Omit<UnparsedSession, 'parse' | 'isTouchDue'>,
    data: Buffer,
    names: SessionNames,
  ): StoredSession | undefined {
    const { handle } = names;
    const opened = this.#settings.seal.open(data, handle);
    const payload = parsePayload(opened);
    if (opened === undefined || payload === undefined) {
      this.#reportCorrupt(handle);
      return undefined;
    }
    const { meta, content, userId } = payload;
    const { isCurrent } = opened;
    return { meta, content, userId, created, idle, revision, owner, names, isCurrent };
  }

  #reportCorrupt(handle: string): void {
    const { reporter } = this.#deps;
    reporter.events.emit('session:corrupt', { handle });
    const message = 'a stored session cannot be read and counts as absent';
    reporter.failure('session', new StoreError('ERR_REDIS_KIT_CORRUPT', message));
  }
}
