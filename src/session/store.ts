import expressSession from 'express-session';
import type { Budget } from '../engine/budget.ts';
import type { SessionContent, SessionRecords } from './record.ts';

/** What one request knows of its sessions. */
export interface RequestSessions {
  readonly budget: Budget;
  /** The ids that are known to be in the store, with the content that was last seen there. */
  readonly stored: Map<string, string>;
  /** Redis cannot be reached and the app goes on without: nothing is written, no cookie is sent. */
  isDetached: boolean;
  /** A save that came too late: the session had ended elsewhere. */
  conflict: boolean;
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
    return Object.create(this, {
      request: { value: request },
      get: { value: SessionStore.prototype.get },
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
  if (request?.isDetached === true) return;
  const mode = request?.stored.has(id) === true ? 'update' : 'create';
  const written = await records.write(id, mode, JSON.stringify(session), request?.budget);
  if (written) request?.stored.set(id, contentOf(session));
  else if (request !== undefined) request.conflict = true;
}

async function destroy({ records, request }: SessionStore, id: string): Promise<void> {
  if (request?.isDetached === true) return;
  // An id that was made for this request and never written has nothing to destroy.
  if (request !== undefined && !request.stored.has(id)) return;
  await records.destroy(id, request?.budget);
  request?.stored.delete(id);
}

/** What decides whether a session changed: everything but its cookie. */
export function contentOf(session: object): string {
  return JSON.stringify(session, function (this: unknown, key, value: unknown) {
    return this === session && key === 'cookie' ? undefined : value;
  });
}

/** Calls back once, outside the promise: what the callback throws is its caller's, and no reason to call again. */
function callBack<Value>(promise: Promise<Value>, callback: Callback<Value> | undefined): void {
  promise.then(
    (value) => process.nextTick(() => callback?.(null, value)),
    (error: unknown) => process.nextTick(() => callback?.(error)),
  );
}
