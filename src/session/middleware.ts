import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import expressSession from 'express-session';
import { ConfigError, RedisKitError } from '../base/errors.ts';
import type { BudgetOf } from '../engine/budget.ts';
import { beforeEnd } from '../http/before-end.ts';
import { asExpress, type Middleware, type Next, type Req, type Res } from '../http/middleware.ts';
import { sendUnavailable } from '../http/problem.ts';
import { commitSession } from './commit.ts';
import { resolveSessionOptions, type SessionOptions, type SessionSettings } from './options.ts';
import { type SessionDeps, SessionRecords } from './record.ts';
import { type RequestSessions, SessionStore } from './store.ts';

declare module 'express-session' {
  interface SessionData {
    /** Whose session this is, once somebody has logged in. */
    userId?: string | undefined;
  }
}

export function sessionMiddleware(
  options: SessionOptions,
  deps: SessionDeps & { readonly budgetOf: BudgetOf; readonly isMemory: boolean },
): Middleware {
  const settings = resolveSessionOptions(options);
  const records = new SessionRecords(deps, settings);
  const store = new SessionStore(records);
  // express-session reads through this property during its synchronous part, so that the read has a budget.
  let reading: SessionStore = store;
  store.get = (id, callback) => SessionStore.prototype.get.call(reading, id, callback);
  const handle = expressSession({
    ...expressSessionOptions(settings),
    store,
    secret: secretOf(settings, deps),
  });

  return function session(req: IncomingMessage, res: ServerResponse, next: Next): void {
    const request = asExpress(req);
    const sessions: RequestSessions = {
      budget: deps.budgetOf(req),
      stored: new Map(),
      isDetached: false,
      conflict: false,
    };
    const { end } = res;
    let wentOn = false;

    function loaded(error?: unknown): void {
      // express-session's own end would send the head before it saves; the hook below saves before anything leaves.
      res.end = end;
      if (error instanceof RedisKitError) {
        records.failed(error);
        if (settings.onError === 'error') {
          sendUnavailable(res, 'session');
          return;
        }
        sessions.isDetached = true;
        store.generate(request);
        dropCookie(request);
      }
      if (request.session !== undefined && (error === undefined || sessions.isDetached)) {
        request.sessionStore = store.forRequest(sessions);
        const originalId = request.sessionID;
        const commit = () => commitSession(request, { sessions, records, settings, originalId, dropCookie });
        beforeEnd(res, { phase: 'session', beforeHeaders: commit, beforeEnd: commit });
      }
      wentOn = true;
      next(sessions.isDetached ? undefined : error);
    }

    reading = store.forRequest(sessions);
    try {
      handle(request, res as Res, loaded);
    } catch (error) {
      // `genid` and the cookie's options run in there; what the rest of the app throws is not ours.
      if (wentOn) throw error;
      next(error);
    } finally {
      reading = store;
    }
  };
}

/** express-session sends its cookie only for a request that has a session id. */
function dropCookie(request: Req): void {
  Object.assign(request, { sessionID: undefined });
}

function expressSessionOptions(settings: SessionSettings) {
  const { name, cookie, rolling, saveUninitialized, unset, genid, proxy } = settings;
  return {
    name,
    cookie,
    rolling,
    saveUninitialized,
    unset,
    resave: false,
    ...(genid === undefined ? {} : { genid }),
    ...(proxy === undefined ? {} : { proxy }),
  };
}

function secretOf(settings: SessionSettings, deps: SessionDeps & { readonly isMemory: boolean }): string[] {
  if (settings.secret !== undefined) return [...settings.secret];
  if (!deps.isMemory) {
    throw new ConfigError(
      'kit.session: option `secret` is missing; give a long random string that all processes share, for example from process.env.SESSION_SECRET',
    );
  }
  deps.reporter.warning('kit.session has no `secret`; one was made up, which ends with this process');
  return [randomBytes(32).toString('base64url')];
}
