import expressSession from 'express-session';
import type { Req } from '../../http/middleware.ts';
import { type Callback, promiseOrCallback, resolveToNull } from '../callback.ts';

export type SessionData = expressSession.SessionData;

/**
 * A complete express-session `Store` for an app that keeps its own `expressSession({ store })`. Each method takes a
 * callback and returns a promise, as connect-redis's methods do. Without a callback, the promise resolves to the result
 * or rejects. With a callback, it resolves to the return value of the callback and never rejects.
 */
export interface SessionStore extends expressSession.Store {
  /** Resolves to the live session of an id, or to null. */
  get(id: string): Promise<SessionData | null>;
  get(id: string, callback: Callback<SessionData | null> | undefined): Promise<unknown>;
  /** Fails with `ERR_REDIS_KIT_SESSION_DATA` for a session that is larger than `maxBytes`. */
  set(id: string, session: SessionData): Promise<null>;
  set(id: string, session: SessionData, callback: Callback<null> | undefined): Promise<unknown>;
  touch(id: string, session: SessionData): Promise<null>;
  touch(id: string, session: SessionData, callback: Callback<null> | undefined): Promise<unknown>;
  /** The signature that express-session's types require. */
  touch(id: string, session: SessionData, callback: () => void): Promise<unknown>;
  destroy(id: string): Promise<null>;
  destroy(id: string, callback: Callback<null> | undefined): Promise<unknown>;
  /** Resolves to all sessions, each with its `id` in the store. Visits every key of the server (SCAN). */
  all(): Promise<IdentifiedSession[]>;
  all(callback: Callback<IdentifiedSession[]> | undefined): Promise<unknown>;
  /** Resolves to the ids of all sessions: session ids in the connect-redis format, handles in the kit's own format. */
  ids(): Promise<string[]>;
  ids(callback: Callback<string[]> | undefined): Promise<unknown>;
  length(): Promise<number>;
  length(callback: Callback<number> | undefined): Promise<unknown>;
  clear(): Promise<null>;
  clear(callback: Callback<null> | undefined): Promise<unknown>;
}

type IdentifiedSession = SessionData & { readonly id: string };

/** A format in which a `CallbackStore` stores sessions: the kit's own, or that of connect-redis. */
export interface StoreFormat {
  get(id: string): Promise<SessionData | null>;
  set(id: string, session: SessionData): Promise<void>;
  touch(id: string, session: SessionData): Promise<void>;
  destroy(id: string): Promise<void>;
  /** Iterates over pages of the ids of all sessions in the store. */
  ids(): AsyncIterable<readonly string[]>;
  /** The session of an id that `ids` listed, read without moving its expiry; null when the session has ended since. */
  peek(id: string): Promise<SessionData | null>;
  /** Deletes the session of an id that `ids` listed. */
  remove(id: string): Promise<void>;
  /** Called when express-session has created a session from data that `get` returned. */
  noteCreated(session: object, data: SessionData): void;
}

/** An express-session `Store` for any format. A callback is called once. The return types are for calls without one. */
export class CallbackStore extends expressSession.Store implements SessionStore {
  readonly #format: StoreFormat;
  readonly #reportFailure: (error: unknown) => void;

  constructor(format: StoreFormat, reportFailure: (error: unknown) => void) {
    super();
    this.#format = format;
    this.#reportFailure = reportFailure;
  }

  override createSession(req: Express.Request, data: SessionData): expressSession.Session & SessionData {
    const session = super.createSession(req as Req, data);
    this.#format.noteCreated(session, data);
    return session;
  }

  override get(id: string, callback?: Callback<SessionData | null>): Promise<SessionData | null> {
    return promiseOrCallback(this.#format.get(id), callback, this.#reportFailure);
  }

  override set(id: string, session: SessionData, callback?: Callback<null>): Promise<null> {
    return promiseOrCallback(resolveToNull(this.#format.set(id, session)), callback, this.#reportFailure);
  }

  override touch(id: string, session: SessionData, callback?: Callback<null>): Promise<null> {
    return promiseOrCallback(resolveToNull(this.#format.touch(id, session)), callback, this.#reportFailure);
  }

  override destroy(id: string, callback?: Callback<null>): Promise<null> {
    return promiseOrCallback(resolveToNull(this.#format.destroy(id)), callback, this.#reportFailure);
  }

  override all(callback?: Callback<IdentifiedSession[]>): Promise<IdentifiedSession[]> {
    return promiseOrCallback(this.#all(), callback, this.#reportFailure);
  }

  ids(callback?: Callback<string[]>): Promise<string[]> {
    return promiseOrCallback(this.#ids(), callback, this.#reportFailure);
  }

  override length(callback?: Callback<number>): Promise<number> {
    const length = this.#ids().then((ids) => ids.length);
    return promiseOrCallback(length, callback, this.#reportFailure);
  }

  override clear(callback?: Callback<null>): Promise<null> {
    return promiseOrCallback(resolveToNull(this.#clear()), callback, this.#reportFailure);
  }

  async #ids(): Promise<string[]> {
    // SCAN may return a key twice.
    const ids = new Set<string>();
    for await (const page of this.#format.ids()) for (const id of page) ids.add(id);
    return [...ids];
  }

  async #all(): Promise<IdentifiedSession[]> {
    const ids = await this.#ids();
    const sessions = await Promise.all(ids.map((id) => this.#format.peek(id)));
    return sessions.flatMap((session, index) =>
      session === null ? [] : [Object.assign(session, { id: ids[index] ?? '' })],
    );
  }

  async #clear(): Promise<void> {
    for await (const page of this.#format.ids()) {
      await Promise.all(page.map((id) => this.#format.remove(id)));
    }
  }
}
