import type { IncomingMessage, ServerResponse } from 'node:http';
import { ConfigError, RedisKitError } from '../base/errors.ts';
import type { RequestDeadlines } from '../engine/deadline.ts';
import { clientAddress } from '../http/client-address.ts';
import { asExpress, type Middleware, type Next } from '../http/middleware.ts';
import { checkMiddlewareCall } from '../http/mount-check.ts';
import { sendUnavailable } from '../http/problem-details.ts';
import { isComplete } from '../http/response/complete-response.ts';
import { addResponseHook } from '../http/response/guarded-response.ts';
import { passError } from '../http/run-middleware.ts';
import { ClientCookie, type WholeCookie } from './client-cookie.ts';
import { commitSession, dropCookie } from './commit.ts';
import { secretsOf, sessionLoader } from './express-session.ts';
import { giveView, inheritSession } from './kit-session.ts';
import { resolveSessionOptions, type SessionOptions } from './options.ts';
import { SessionRecords } from './record.ts';
import { type DeviceFacts, RequestSessions } from './request-sessions.ts';
import type { Seal } from './seal.ts';
import { SignedCookies } from './signed-cookie.ts';
import { KitStore } from './store.ts';
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
  const store = new KitStore(records);
  const cookies = new SignedCookies(settings.name, secretsOf(settings, deps));
  const load = sessionLoader(settings, store, cookies);
  const { proxy } = settings;
  const warn = (message: string) => records.warn(message);

  return function session(req: IncomingMessage, res: ServerResponse, next: Next): void {
    checkMiddlewareCall('kit.session', req, next);
    const request = asExpress(req);
    // Mounted twice, or behind another one: the first has the session.
    if (request.session) {
      next();
      return;
    }
    // A WebSocket upgrade has none: its session is loaded, and saved only when the handler says so.
    const isAnswerable = isComplete(req, res);
    const sessions = new RequestSessions({
      deadline: deps.deadlines.of(req),
      newDeadline: () => deps.deadlines.ofCall(),
      facts: () => factsOf(req),
      cookie: isAnswerable ? new ClientCookie(request, res, cookies, { proxy, warn }) : undefined,
      currentId: () => request.sessionID,
    });
    const view = store.forRequest(sessions);
    let wentOn = false;

    function loaded(error: unknown, sendCookie: () => void): void {
      if (wentOn) {
        // A cookie that could not be written, long after `next`: only telling is left.
        records.failed(error);
        return;
      }
      if (error instanceof RedisKitError && !(error instanceof ConfigError)) {
        records.failed(error);
        if (settings.onError === 'error') {
          wentOn = true;
          if (isAnswerable) sendUnavailable(res, 'session');
          else next(error);
          return;
        }
        sessions.isDetached = true;
        error = generate();
      }
      request.sessionStore = view;
      giveView(req, view);
      if (error === undefined && request.session !== undefined) {
        inheritSession(request.session);
        saveBeforeEnd(sendCookie);
      }
      wentOn = true;
      if (error === undefined) next();
      else passError({ req, res, next }, error);
    }

    /** An empty session in place of one that cannot be loaded; answers with what the user's `genid` threw. */
    function generate(): unknown {
      try {
        view.generate(request);
        dropCookie(request);
        return undefined;
      } catch (error) {
        return error;
      }
    }

    function saveBeforeEnd(sendCookie: () => void): void {
      const { sessionID: originalId, session } = request;
      if (!sessions.stored.has(originalId)) sessions.made.push(originalId);
      sessions.originalCookie = session.cookie as WholeCookie;
      sessions.loaded = sessions.stored.get(originalId);
      if (!isAnswerable) return;
      const context = { sessions, view, records, settings, originalId };
      let isCommitted = false;
      addResponseHook(res, {
        phase: 'session',
        // What a handler changes after its last byte is saved before its client can ask again.
        withholdsLastBytes: true,
        headLeaves: sendCookie,
        beforeHeaders() {
          const wait = commitSession(request, context, false);
          isCommitted = wait === undefined;
          return wait;
        },
        // Nothing can have changed since, unless the handler ran on while the commit waited or the body streamed.
        beforeEnd: (hasBegun, ranOn) =>
          isCommitted && !ranOn ? undefined : commitSession(request, context, hasBegun),
      });
    }

    function begin(id?: string): void {
      try {
        load(request, isAnswerable ? res : undefined, view, loaded, id);
      } catch (error) {
        // `genid` runs in there; what the rest of the app throws is not ours.
        if (wentOn) throw error;
        passError({ req, res, next }, error);
      }
    }

    const { cookie: sent } = req.headers;
    if (!cookies.areSeveral(sent)) begin();
    else {
      // Outside of the promise, as after a read: what the app throws is not ours.
      const newest = records.newestOf(cookies.idsIn(sent), sessions.scope.deadline);
      newest.then(
        (id) => process.nextTick(begin, id),
        (error: unknown) => process.nextTick(loaded, error, () => undefined),
      );
    }
  };
}

/** Longer ones are cut: this is for people to read. */
const MAX_USER_AGENT_LENGTH = 256;

function factsOf(req: IncomingMessage): DeviceFacts {
  return {
    ip: clientAddress(req),
    userAgent: req.headers['user-agent']?.slice(0, MAX_USER_AGENT_LENGTH),
  };
}
