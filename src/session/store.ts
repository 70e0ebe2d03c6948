import expressSession from 'express-session';
import { asError, RedisKitError } from '../base/errors.ts';
import type { Budget } from '../engine/budget.ts';
import type { SessionContent, SessionRecords } from './record.ts';

/** What one request knows of its sessions. */
export class RequestSessions {
  readonly budget: Budget;
  /** The ids that are known to be in the store, with the content that was last seen there. */
  readonly stored: Map<string, string> = new Map();
  /** The ids that were made for this request: one that was never written has nothing to destroy. */
  readonly made: Set<string> = new Set();
  /** The ids whose save came too late: those sessions had ended elsewhere. */
  readonly ended: Set<string> = new Set();
  /** Redis cannot be reached and the app goes on without: nothing is written, no cookie is sent. */
  isDetached = false;
  /** The last write or destroy that was begun, as long as it is under way. */
  underWay: Promise<unknown> | undefined;

  constructor(budget: Budget) {
    this.budget = budget;
  }

  /** Writes and destroys happen in the order of their calls: a handler need not wait for one before the next. */
  inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.underWay === undefined ? work() : this.underWay.then(work);
    const settled: Promise<unknown> = Promise.allSettled([turn]).then(() => {
      if (this.underWay === settled) this.underWay = undefined;
    });
    this.underWay = settled;
    return turn;
  }
}

type Callback<Value = unknown> = (error?: unknown, value?: Value) => void;

/**
 * The express-session store of one middleware. It has no `touch`: reading slides the expiry, and express-session
 * would send a second command for it.
 *
 * express-session knows one store for all requests. Each request gets a view of it (`forRequest`), which carries
 * the request's budget and knows which sessions were loaded.
 */
export class SessionStore extends expressSession.Store {
  readonly records: SessionRecords;
  readonly request: RequestSessions | undefined;
  /** Given by express-session: puts a new, empty session on the request. */
  declare generate: (request: Express.Request) => void;

  constructor(records: SessionRecords) {
    super();
    this.records = records;
  }

  forRequest(request: RequestSessions): SessionStore {
    const generate = (req: Express.Request): void => {
      this.generate(req);
      request.made.add(req.sessionID);
    };
    return Object.create(this, {
      request: { value: request },
      get: { value: SessionStore.prototype.get },
      generate: { value: generate },
    }) as SessionStore;
  }

  override get(id: string, callback: Callback<expressSession.SessionData | null>): void {
    callBack(read(this, id), callback);
  }

  override set(id: string, session: expressSession.SessionData, callback?: Callback): void {
    callBack(write(this, id, session), callback);
  }

  override destroy(id: string, callback?: Callback): void {
    callBack(destroy(this, id), callback);
  }
}

/* Functions and not private methods, which a view of the store would not have. */

async function read(
  { records, request }: SessionStore,
  id: string,
): Promise<expressSession.SessionData | null> {
  const content = await records.read(id, request?.budget);
  if (content === undefined) return null;
  const session = content as SessionContent & expressSession.SessionData;
  request?.stored.set(id, contentOf(session));
  return session;
}

async function write({ records, request }: SessionStore, id: string, session: object): Promise<void> {
  // As it is now: the handler may go on changing it while it is written.
  const json = stringify(session);
  const content = contentOf(session);
  if (request === undefined) {
    await records.write(id, 'create', json);
    return;
  }
  await request.inTurn(async () => {
    if (request.isDetached || request.ended.has(id)) return;
    const mode = request.stored.has(id) ? 'update' : 'create';
    const written = await records.write(id, mode, json, request.budget);
    if (written) request.stored.set(id, content);
    else request.ended.add(id);
  });
}

async function destroy({ records, request }: SessionStore, id: string): Promise<void> {
  if (request === undefined) {
    await records.destroy(id);
    return;
  }
  await request.inTurn(async () => {
    if (request.isDetached || (request.made.has(id) && !request.stored.has(id))) return;
    await records.destroy(id, request.budget);
    request.stored.delete(id);
  });
}

/** What decides whether a session changed: everything but its cookie. */
export function contentOf(session: object): string {
  return stringify({ ...session, cookie: undefined });
}

function stringify(session: object): string {
  try {
    return JSON.stringify(session);
  } catch (error) {
    throw new RedisKitError(
      'ERR_REDIS_KIT_SESSION_DATA',
      `req.session holds something that JSON cannot, so it was not saved: ${asError(error).message}`,
      { cause: error },
    );
  }
}

/** Calls back once, outside the promise: what the callback throws is its caller's, and no reason to call again. */
function callBack<Value>(promise: Promise<Value>, callback: Callback<Value> | undefined): void {
  promise.then(
    (value) => process.nextTick(() => callback?.(null, value)),
    (error: unknown) => process.nextTick(() => callback?.(error)),
  );
}
