import expressSession from 'express-session';
import type { Req } from '../http/middleware.ts';
import { type Callback, callBack } from './callback.ts';

export type SessionData = expressSession.SessionData;

/** A whole express-session Store, for those who keep their own `expressSession({ store })`. */
export interface SessionStore extends expressSession.Store {
  touch(id: string, session: SessionData, callback?: () => void): void;
  /** Every session (SCAN), each with the `id` by which the store knows it. */
  all(callback: (error: unknown, sessions?: SessionData[]) => void): void;
  /** What the store knows sessions by; only of connect-redis's these are the session ids. */
  ids(callback: Callback<string[]>): void;
  length(callback: (error: unknown, length?: number) => void): void;
  clear(callback?: (error?: unknown) => void): void;
}

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

  constructor(work: StoreWork) {
    super();
    this.#work = work;
  }

  override createSession(req: Express.Request, data: SessionData): expressSession.Session & SessionData {
    const session = super.createSession(req as Req, data);
    this.#work.made(session, data);
    return session;
  }

  override get(id: string, callback: Callback<SessionData | null>): void {
    callBack(this.#work.get(id), callback);
  }

  override set(id: string, session: SessionData, callback?: Callback): void {
    callBack(this.#work.set(id, session), callback);
  }

  override touch(id: string, session: SessionData, callback?: Callback): void {
    callBack(this.#work.touch(id, session), callback);
  }

  override destroy(id: string, callback?: Callback): void {
    callBack(this.#work.destroy(id), callback);
  }

  override all(callback: (error: unknown, sessions?: SessionData[]) => void): void {
    callBack(this.#all(), callback);
  }

  ids(callback: Callback<string[]>): void {
    callBack(this.#names(), callback);
  }

  override length(callback: (error: unknown, length?: number) => void): void {
    callBack(
      this.#names().then((names) => names.length),
      callback,
    );
  }

  override clear(callback?: (error?: unknown) => void): void {
    callBack(this.#clear(), callback);
  }

  async #names(): Promise<string[]> {
    // SCAN may name one twice.
    const names = new Set<string>();
    for await (const page of this.#work.names()) for (const name of page) names.add(name);
    return [...names];
  }

  async #all(): Promise<SessionData[]> {
    const names = await this.#names();
    const sessions = await Promise.all(names.map((name) => this.#work.peek(name)));
    return sessions.flatMap((session, index) =>
      session === null ? [] : [Object.assign(session, { id: names[index] })],
    );
  }

  async #clear(): Promise<void> {
    for await (const page of this.#work.names()) {
      await Promise.all(page.map((name) => this.#work.remove(name)));
    }
  }
}
