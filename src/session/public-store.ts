import expressSession from 'express-session';
import type { Req } from '../http/middleware.ts';
import { answer, type Callback, withoutResult } from './callback.ts';

export type SessionData = expressSession.SessionData;

/**
 * A whole express-session Store, for those who keep their own `expressSession({ store })`. Each method calls back and
 * returns a promise, as connect-redis's methods do: without a callback the promise resolves to the result or rejects;
 * with one it resolves to what the callback returned, and never rejects.
 */
export interface SessionStore extends expressSession.Store {
  /** The session of an id; null when there is none. */
  get(id: string): Promise<SessionData | null>;
  get(id: string, callback: Callback<SessionData | null> | undefined): Promise<unknown>;
  /** Fails with `ERR_REDIS_KIT_SESSION_DATA` for a session that is larger than `maxBytes`. */
  set(id: string, session: SessionData): Promise<null>;
  set(id: string, session: SessionData, callback: Callback<null> | undefined): Promise<unknown>;
  touch(id: string, session: SessionData): Promise<null>;
  touch(id: string, session: SessionData, callback: Callback<null> | undefined): Promise<unknown>;
  /** As express-session's types have it. */
  touch(id: string, session: SessionData, callback: () => void): Promise<unknown>;
  destroy(id: string): Promise<null>;
  destroy(id: string, callback: Callback<null> | undefined): Promise<unknown>;
  /** Every session (SCAN), each with the `id` by which the store knows it. */
  all(): Promise<IdentifiedSession[]>;
  all(callback: Callback<IdentifiedSession[]> | undefined): Promise<unknown>;
  /** What the store knows sessions by; only of connect-redis's these are the session ids. */
  ids(): Promise<string[]>;
  ids(callback: Callback<string[]> | undefined): Promise<unknown>;
  length(): Promise<number>;
  length(callback: Callback<number> | undefined): Promise<unknown>;
  clear(): Promise<null>;
  clear(callback: Callback<null> | undefined): Promise<unknown>;
}

/** A session as `all` lists it. */
type IdentifiedSession = SessionData & { readonly id: string };

/** What a store does, in promises; how express-session asks for it is the same for all. */
export interface StoreWork {
  get(id: string): Promise<SessionData | null>;
  set(id: string, session: SessionData): Promise<void>;
  touch(id: string, session: SessionData): Promise<void>;
  destroy(id: string): Promise<void>;
  /** The names of all sessions, some at a time. */
  names(): AsyncIterable<readonly string[]>;
  /** By name; null when it has ended meanwhile. */
  peek(name: string): Promise<SessionData | null>;
  remove(name: string): Promise<void>;
  /** A session was made of data that `get` answered. */
  made(session: object, data: SessionData): void;
}

/** express-session's Store over the work; each callback is called once, with what the work came to. */
export class CallbackStore extends expressSession.Store implements SessionStore {
  readonly #work: StoreWork;
  /** Hears of errors that the caller may not wait for. */
  readonly #failed: (error: unknown) => void;

  constructor(work: StoreWork, failed: (error: unknown) => void) {
    super();
    this.#work = work;
    this.#failed = failed;
  }

  override createSession(req: Express.Request, data: SessionData): expressSession.Session & SessionData {
    const session = super.createSession(req as Req, data);
    this.#work.made(session, data);
    return session;
  }

  override get(id: string): Promise<SessionData | null>;
  override get(id: string, callback: Callback<SessionData | null> | undefined): Promise<unknown>;
  override get(id: string, callback?: Callback<SessionData | null>): Promise<unknown> {
    return answer(this.#work.get(id), callback, this.#failed);
  }

  override set(id: string, session: SessionData): Promise<null>;
  override set(id: string, session: SessionData, callback: Callback<null> | undefined): Promise<unknown>;
  override set(id: string, session: SessionData, callback?: Callback<null>): Promise<unknown> {
    return answer(withoutResult(this.#work.set(id, session)), callback, this.#failed);
  }

  override touch(id: string, session: SessionData): Promise<null>;
  override touch(id: string, session: SessionData, callback: Callback<null> | undefined): Promise<unknown>;
  override touch(id: string, session: SessionData, callback: () => void): Promise<unknown>;
  override touch(id: string, session: SessionData, callback?: Callback<null>): Promise<unknown> {
    return answer(withoutResult(this.#work.touch(id, session)), callback, this.#failed);
  }

  override destroy(id: string): Promise<null>;
  override destroy(id: string, callback: Callback<null> | undefined): Promise<unknown>;
  override destroy(id: string, callback?: Callback<null>): Promise<unknown> {
    return answer(withoutResult(this.#work.destroy(id)), callback, this.#failed);
  }

  override all(): Promise<IdentifiedSession[]>;
  override all(callback: Callback<IdentifiedSession[]> | undefined): Promise<unknown>;
  override all(callback?: Callback<IdentifiedSession[]>): Promise<unknown> {
    return answer(this.#all(), callback, this.#failed);
  }

  ids(): Promise<string[]>;
  ids(callback: Callback<string[]> | undefined): Promise<unknown>;
  ids(callback?: Callback<string[]>): Promise<unknown> {
    return answer(this.#names(), callback, this.#failed);
  }

  override length(): Promise<number>;
  override length(callback: Callback<number> | undefined): Promise<unknown>;
  override length(callback?: Callback<number>): Promise<unknown> {
    const length = this.#names().then((names) => names.length);
    return answer(length, callback, this.#failed);
  }

  override clear(): Promise<null>;
  override clear(callback: Callback<null> | undefined): Promise<unknown>;
  override clear(callback?: Callback<null>): Promise<unknown> {
    return answer(withoutResult(this.#clear()), callback, this.#failed);
  }

  async #names(): Promise<string[]> {
    // SCAN may name one twice.
    const names = new Set<string>();
    for await (const page of this.#work.names()) for (const name of page) names.add(name);
    return [...names];
  }

  async #all(): Promise<IdentifiedSession[]> {
    const names = await this.#names();
    const sessions = await Promise.all(names.map((name) => this.#work.peek(name)));
    return sessions.flatMap((session, index) =>
      session === null ? [] : [Object.assign(session, { id: names[index] ?? '' })],
    );
  }

  async #clear(): Promise<void> {
    for await (const page of this.#work.names()) {
      await Promise.all(page.map((name) => this.#work.remove(name)));
    }
  }
}
