import expressSession from 'express-session';
import { asError, StoreError } from '../base/errors.ts';
import type { Keys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Budget } from '../engine/budget.ts';
import type { Engine } from '../engine/port.ts';
import { sessionRead } from '../operations/session-read.ts';
import { sessionWrite } from '../operations/session-write.ts';

/** What every session middleware of a kit shares. */
export interface SessionDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
}

export interface SessionLifetimes {
  readonly idle: number;
  readonly absolute: number;
  readonly touchAfter: number;
}

/** The data of a session as it is stored: JSON of an object, express-session's cookie facts among it. */
export type SessionContent = Record<string, unknown>;

/** Sessions in the store, without HTTP. */
export class SessionRecords {
  readonly #deps: SessionDeps;
  readonly #lifetimes: SessionLifetimes;

  constructor(deps: SessionDeps, lifetimes: SessionLifetimes) {
    this.#deps = deps;
    this.#lifetimes = lifetimes;
  }

  /** The live session of an id, or undefined; its idle deadline moves with the read. */
  async read(id: string, budget?: Budget): Promise<SessionContent | undefined> {
    const { engine, keys, reporter } = this.#deps;
    const { touchAfter } = this.#lifetimes;
    const { data, found } = await engine.run(sessionRead, [keys.session(id)], { touchAfter }, budget);
    const content = data === null ? undefined : parse(data);
    if (found === 'corrupt' || (data !== null && content === undefined)) {
      reporter.events.emit('session:corrupt', {});
      reporter.failure(
        'session',
        new StoreError('ERR_REDIS_KIT_CORRUPT', 'a stored session cannot be read and counts as absent'),
      );
    }
    return content;
  }

  /** Writes a new session, or one that must still be alive; false when it is not (or the new id is taken). */
  async write(id: string, mode: 'create' | 'update', json: string, budget?: Budget): Promise<boolean> {
    const { engine, keys, reporter } = this.#deps;
    const { idle, absolute } = this.#lifetimes;
    const args = { mode, idle, absolute, data: Buffer.from(json) };
    const { written } = await engine.run(sessionWrite, [keys.session(id)], args, budget);
    if (!written) reporter.events.emit('session:conflict', {});
    else if (mode === 'create') reporter.events.emit('session:created', {});
    return written;
  }

  async destroy(id: string, budget?: Budget): Promise<void> {
    const { engine, keys, reporter } = this.#deps;
    const count = await engine.delete([keys.session(id)], budget);
    if (count > 0) reporter.events.emit('session:destroyed', {});
  }

  /** Tells of an error that the failure policy covers. */
  failed(error: unknown): void {
    this.#deps.reporter.failure('session', asError(error));
  }
}

/** A session is an object that holds its cookie's facts; anything else was not written by us. */
function parse(data: Buffer): SessionContent | undefined {
  try {
    const content: unknown = JSON.parse(data.toString());
    if (typeof content !== 'object' || content === null || !('cookie' in content)) return undefined;
    if (typeof content.cookie !== 'object' || content.cookie === null) return undefined;
    // Throws what it would throw when the session is made of it.
    Reflect.construct(expressSession.Cookie, [content.cookie]);
    return content as SessionContent;
  } catch {
    return undefined;
  }
}
