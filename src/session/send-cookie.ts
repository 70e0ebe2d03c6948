import expressSession from 'express-session';
import type { SessionCookie } from './client-cookie.ts';
import { SessionContent } from './content.ts';
import { hasOtherMaxAge } from './cookie-lifetime.ts';
import { isSecure } from './cookie-options.ts';
import { type RequestSession, UNTOUCHED } from './request-session.ts';

type Session = expressSession.Session;

const NO_CONTENT = SessionContent.of({});

/** Sets the session cookie on the response if it is new, renewed by `rolling`, or has changed. */
export function sendCookie(request: RequestSession): void {
  const session = sessionToSend(request);
  if (session === undefined) return;
  const { id, clientCookie, parts } = request;
  // Without an id, the session was not saved.
  if (id === undefined) return;
  if (isDue(session, request)) {
    if (session.cookie.secure && !isSecure(request.req, parts.settings.proxy)) return;
  } else if (!hasNewMaxAge(session, request) || clientCookie?.canBeSent(session.cookie) !== true) return;
  try {
    // The lifetime in the browser starts again.
    session.touch();
    clientCookie?.send(session.cookie as SessionCookie, id);
  } catch (error) {
    // An attribute of the cookie has an invalid value.
    parts.records.reportFailure(error);
  }
}

/** The session of a request that may need a cookie. */
function sessionToSend(request: RequestSession): Session | undefined {
  if (request.isReplaced) return undefined;
  const value = request.peek();
  if (value === UNTOUCHED && (request.isNew || !request.parts.settings.rolling)) return undefined;
  const session = value === UNTOUCHED ? request.session : value;
  return session instanceof expressSession.Session ? session : undefined;
}

/** Whether the cookie is sent by the rules of express-session. */
function isDue(session: Session, request: RequestSession): boolean {
  const { rolling, saveUninitialized } = request.parts.settings;
  const isModified = () =>
    session.id !== request.originalId || !(request.loaded?.content ?? NO_CONTENT).isOf(session);
  if (request.cookieId !== request.id) return saveUninitialized || isModified();
  return rolling || (Boolean(session.cookie.expires) && isModified());
}

/** Whether the `maxAge` of a stored session has changed, which express-session would not send. */
function hasNewMaxAge({ id, cookie }: Session, { id: current, loaded, stored }: RequestSession): boolean {
  return (
    loaded !== undefined && id === current && stored.has(id) && hasOtherMaxAge(cookie, loaded.meta.cookie)
  );
}
