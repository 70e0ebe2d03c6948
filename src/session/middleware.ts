import type { IncomingMessage, ServerResponse } from 'node:http';
import { ConfigError, RedisKitError } from '../base/errors.ts';
import type { RequestDeadlines } from '../engine/deadline.ts';
import { asExpress, type Middleware, type Next } from '../http/middleware.ts';
import { checkMiddlewareCall } from '../http/mount-check.ts';
import { sendUnavailable } from '../http/problem-details.ts';
import { isComplete } from '../http/response/complete-response.ts';
import { addResponseHook } from '../http/response/guarded-response.ts';
import { passError } from '../http/run-middleware.ts';
import { ClientCookie, type SessionCookie } from './client-cookie.ts';
import { commitSession, dropCookie } from './commit.ts';
import { MiddlewareStore } from './middleware-store.ts';
import { resolveSessionOptions, type SessionOptions } from './options.ts';
import { RequestSessions, setRequestStore } from './request-sessions.ts';
import type { Seal } from './seal.ts';
import { secretsOf } from './secret.ts';
import { sessionLoader } from './session-loader.ts';
import { inheritMethods } from './session-methods.ts';
import { SessionRecords } from './session-records.ts';
import { SignedCookies } from './signed-cookie.ts';
import type { SessionDeps } from './user-index.ts';

export interface SessionMiddlewareDeps extends SessionDeps {
  readonly deadlines: RequestDeadlines;
  readonly isMemory: boolean;
  /** The seals of all session middleware of the kit, with which `kit.sessions` opens sealed sessions. */
  readonly seals: Set<Seal>;
}

export function sessionMiddleware(options: SessionOptions<never>, deps: SessionMiddlewareDeps): Middleware {
  const settings = resolveSessionOptions(options);
  deps.seals.add(settings.seal);
  const records = new SessionRecords(deps, settings);
  const middlewareStore = new MiddlewareStore(records);
  const cookies = new SignedCookies(settings.name, secretsOf(settings.secret, deps));
  const load = sessionLoader(settings, middlewareStore, cookies);
  const { proxy } = settings;
  const warn = (message: string) => records.warn(message);

  return function session(req: IncomingMessage, res: ServerResponse, next: Next): void {
    checkMiddlewareCall('kit.session', req, next);
    const request = asExpress(req);
    // An earlier session middleware has loaded the session.
    if (request.session) {
      next();
      return;
    }
    // A WebSocket upgrade has no response. The session is loaded, but only calls of the handler save it.
    const hasResponse = isComplete(req, res);
    const cookie = hasResponse ? new ClientCookie(request, res, cookies, { proxy, warn }) : undefined;
    const sessions = new RequestSessions(request, deps.deadlines, cookie);
    const store = middlewareStore.forRequest(sessions);
    let isNextCalled = false;

    function loaded(error: unknown, sendCookie: () => void): void {
      if (isNextCalled) {
        // express-session calls back again when the cookie could not be written, long after the handler began.
        records.reportFailure(error);
        return;
      }
      let failure = error;
      if (error instanceof RedisKitError && !(error instanceof ConfigError)) {
        records.reportFailure(error);
        if (settings.onError === 'error') {
          isNextCalled = true;
          if (hasResponse) sendUnavailable(res, 'session');
          else next(error);
          return;
        }
        sessions.isDetached = true;
        failure = generateDetached();
      }
      request.sessionStore = store;
      setRequestStore(req, store);
      if (failure === undefined && request.session !== undefined) {
        inheritMethods(request.session);
        commitBeforeEnd(sendCookie);
      }
      isNextCalled = true;
      if (failure === undefined) next();
      else passError({ req, res, next }, failure);
    }

    /** Generates an empty session in place of one that cannot be loaded. Returns an error of the option `genid`. */
    function generateDetached(): unknown {
      try {
        store.generate(request);
        dropCookie(request);
        return undefined;
      } catch (error) {
        return error;
      }
    }

    function commitBeforeEnd(sendCookie: () => void): void {
      const { sessionID: originalId } = request;
      if (!sessions.stored.has(originalId)) sessions.generatedIds.push(originalId);
      sessions.originalId = originalId;
      sessions.originalCookie = request.session.cookie as SessionCookie;
      sessions.loaded = sessions.stored.get(originalId);
      if (!hasResponse) return;
      let isCommitted = false;
      addResponseHook(res, {
        phase: 'session',
        // A change after the last write is saved before the client gets the last byte and can send its next request.
        withholdsLastBytes: true,
        headLeaves: sendCookie,
        beforeHeaders() {
          const work = commitSession({ request, store, settings, hasBegun: false });
          isCommitted = work === undefined;
          return work;
        },
        // Without a save or a streamed body, the session cannot have changed since `beforeHeaders`.
        beforeEnd: (hasBegun, ranOn) =>
          isCommitted && !ranOn ? undefined : commitSession({ request, store, settings, hasBegun }),
      });
    }

    function loadSession(id?: string): void {
      try {
        load({ req: request, res: hasResponse ? res : undefined, store, id, loaded });
      } catch (error) {
        // An error of the option `genid` is passed to `next`; an error of later middleware is rethrown.
        if (isNextCalled) throw error;
        passError({ req, res, next }, error);
      }
    }

    const { cookie: sent } = req.headers;
    if (!cookies.hasSeveral(sent)) loadSession();
    else {
      // process.nextTick calls later middleware outside the promise, so that its errors do not reject the promise.
      const newest = records.newestOf(cookies.idsIn(sent), sessions.deadline);
      newest.then(
        (id) => process.nextTick(loadSession, id),
        (error: unknown) => process.nextTick(loaded, error, () => undefined),
      );
    }
  };
}
