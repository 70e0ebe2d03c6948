import type { IncomingMessage, ServerResponse } from 'node:http';
import { RedisKitError } from '../base/errors.ts';
import type { BudgetOf } from '../engine/budget.ts';
import { beforeEnd } from '../http/before-end.ts';
import { clientAddress } from '../http/client-address.ts';
import { asExpress, type Middleware, type Next, type Res } from '../http/middleware.ts';
import { sendUnavailable } from '../http/problem.ts';
import { ClientCookie, type WholeCookie } from './client-cookie.ts';
import { commitSession, dropCookie } from './commit.ts';
import { sessionLoader } from './express-session.ts';
import { giveView, inheritSession } from './kit-session.ts';
import { resolveSessionOptions, type SessionOptions } from './options.ts';
import { SessionRecords } from './record.ts';
import { type DeviceFacts, RequestSessions } from './request-sessions.ts';
import type { Seal } from './seal.ts';
import { KitStore } from './store.ts';
import type { SessionDeps } from './user-index.ts';

export function sessionMiddleware(
  options: SessionOptions<never>,
  deps: SessionDeps & {
    readonly budgetOf: BudgetOf;
    readonly isMemory: boolean;
    /** For those who list sessions. */
    readonly seals: Set<Seal>;
  },
): Middleware {
  const settings = resolveSessionOptions(options);
  deps.seals.add(settings.seal);
  const records = new SessionRecords(deps, settings);
  const store = new KitStore(records);
  const load = sessionLoader(settings, store, deps);

  return function session(req: IncomingMessage, res: ServerResponse, next: Next): void {
    const request = asExpress(req);
    // Mounted twice, or behind another one: the first has the session.
    if (request.session) {
      next();
      return;
    }
    const sessions = new RequestSessions(
      deps.budgetOf(req),
      () => factsOf(req),
      new ClientCookie(res, settings.name),
    );
    const view = store.forRequest(sessions);
    let wentOn = false;

    function loaded(error: unknown, sendCookie: () => void): void {
      if (wentOn) {
        // A cookie that could not be written, long after `next`: only telling is left.
        records.failed(error);
        return;
      }
      if (error instanceof RedisKitError) {
        records.failed(error);
        if (settings.onError === 'error') {
          wentOn = true;
          sendUnavailable(res, 'session');
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
      next(error);
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
      const context = { sessions, view, records, settings, originalId };
      let isCommitted = false;
      beforeEnd(res, {
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

    try {
      load(request, res as Res, view, loaded);
    } catch (error) {
      // `genid` runs in there; what the rest of the app throws is not ours.
      if (wentOn) throw error;
      next(error);
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
