import expressSession from 'express-session';
import type { Duration } from '../base/duration.ts';
import { ConnectionError, StoreError } from '../base/errors.ts';
import { checkedIdentity } from '../base/identity.ts';
import { OptionReader } from '../base/option-reader.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Req } from '../http/middleware.ts';
import type { ClientCookie } from './client-cookie.ts';
import { payloadOf, type SessionPayload, userIdOf } from './payload.ts';
import type { RequestSession } from './request-session.ts';
import type { PreviousSession } from './session-records.ts';

export interface LoginOptions {
  /** The data of the new session, in addition to `userId`. */
  readonly data?: Readonly<Record<string, unknown>> | undefined;
  /** Keeps the old session's data, such as a cart, unless it is another user's; `data` has priority. Default false. */
  readonly keepData?: boolean | undefined;
  /** How long the cookie and the unused session live; default: `cookie.maxAge` and `idle` of `kit.session`. */
  readonly remember?: Duration | undefined;
}

interface Login {
  readonly userId: string;
  readonly data: object;
  readonly isKeeping: boolean;
  readonly rememberMs: number | undefined;
}

/** The properties of a session that are neither data nor methods. */
const RESERVED_NAMES = ['cookie', 'id', 'req'];

/** Checks the arguments of `login`. `methods`: the methods of a session, whose names `data` must not have. */
export function readLogin(userId: unknown, options: LoginOptions, methods: object): Login {
  const id = checkedUserId('req.session.login', userId);
  const reader = new OptionReader('req.session.login', options, ['data', 'keepData', 'remember']);
  const data = reader.value('data') ?? {};
  if (typeof data !== 'object' || Array.isArray(data)) throw reader.error('data', 'it must be an object');
  const reserved = Object.keys(data).find(
    (name) => name in expressSession.Session.prototype || RESERVED_NAMES.includes(name) || name in methods,
  );
  if (reserved !== undefined) {
    throw reader.error('data', `a session has a \`${reserved}\` of its own; take another name`);
  }
  const isKeeping = reader.boolean('keepData', false);
  return { userId: id, data, isKeeping, rememberMs: reader.duration('remember') };
}

/** Returns a valid user id, else throws. `where`: the name of the call, for the message. */
export function checkedUserId(where: string, userId: unknown): string {
  return checkedIdentity(`${where}: the user's id`, userId);
}

/** Stores a new session, adds it to its user's index, then destroys the old session. Undoes all if a step fails. */
export async function logIn(req: Req, request: RequestSession, login: Login): Promise<void> {
  const { records } = request.parts;
  const cookie = usableCookie(request);
  const deadline = request.newDeadline();
  const before = { session: req.session, sessionID: req.sessionID };
  const stored = request.stored.get(before.sessionID);
  const previous = stored === undefined ? undefined : { id: before.sessionID, stored };
  request.generate(req);
  const id = req.sessionID;
  try {
    const payload = fillSession(req, request, before.session, login);
    cookie.keep();
    // A new session whose cookie cannot be sent would never be used, so it is not stored. The old session ends in any
    // case.
    if (cookie.canBeSent(req.session.cookie)) {
      const created = await records.create(id, payload, deadline, previous);
      if (created === undefined)
        throw new StoreError('ERR_REDIS_KIT_SESSION_CONFLICT', 'the id of the new session is taken');
      request.stored.set(id, created);
    }
    if (previous !== undefined) await destroyPrevious(request, previous, id, deadline);
  } catch (error) {
    Object.assign(req, before);
    throw error;
  }
}

function usableCookie({ isDetached, clientCookie: cookie }: RequestSession): ClientCookie {
  if (isDetached) throw new ConnectionError('req.session.login: the session store is unavailable');
  if (cookie !== undefined && !cookie.isTooLate) return cookie;
  const message =
    'req.session.login was called after the response headers were sent, or without a response, so its cookie cannot reach the client';
  throw new StoreError('ERR_REDIS_KIT_LATE_SESSION', message);
}

/** Writes the data of a login to the new session of the request. */
function fillSession(
  req: Req,
  request: RequestSession,
  before: Req['session'],
  { userId, data, isKeeping, rememberMs }: Login,
): SessionPayload {
  const kept = isKeeping ? keepableData(userId, before) : {};
  Object.assign(req.session, kept, data, { userId });
  if (rememberMs !== undefined) req.session.cookie.maxAge = request.parts.records.rememberable(rememberMs);
  const isRemembered = rememberMs !== undefined;
  // Stored sessions stay small: a cookie without a lifetime needs no mark.
  const mark = isRemembered || req.session.cookie.originalMaxAge ? { remembered: isRemembered } : {};
  return payloadOf(req.session, { ...request.device(), ...mark });
}

/** The data of the old session; empty when the old session belongs to another user. */
function keepableData(userId: string, session: Req['session'] | null | undefined): object {
  if (!session) return {};
  const { cookie: _, userId: before, ...data } = session;
  return before === undefined || userIdOf(before) === userId ? data : {};
}

/** Destroys the old session. If that fails, destroys the new session instead, so that the login has no effect. */
async function destroyPrevious(
  request: RequestSession,
  previous: PreviousSession,
  id: string,
  deadline: Deadline,
): Promise<void> {
  const { stored, parts } = request;
  const { records } = parts;
  try {
    await records.destroy(previous.id, previous.stored, deadline);
  } catch (error) {
    // Without the deadline, which may have run out.
    await records.destroy(id, stored.get(id)).catch((failed: unknown) => records.reportFailure(failed));
    stored.delete(id);
    throw error;
  }
  stored.delete(previous.id);
  request.end(previous.id);
  records.emitRotated(previous.id, id);
}
