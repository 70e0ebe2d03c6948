import type { IncomingMessage, ServerResponse } from 'node:http';
import { ConfigError, RedisKitError } from '../base/errors.ts';
import type { FailurePolicies } from '../base/failure-policies.ts';
import type { RequestDeadlines } from '../engine/deadline.ts';
import { asExpress, type Middleware, type Next, originalUrl, type Req } from '../http/middleware.ts';
import { checkMiddlewareCall } from '../http/mount-check.ts';
import { sendUnavailable } from '../http/problem-details.ts';
import { withReadAhead } from '../http/read-ahead.ts';
import { isComplete } from '../http/response/complete-response.ts';
import { addResponseHook } from '../http/response/guarded-response.ts';
import { passError } from '../http/run-middleware.ts';
import { runInTurnBatch } from '../http/turn-batch.ts';
import { CommitHook } from './commit.ts';
import { resolveSessionOptions, type SessionOptions } from './options.ts';
import { defineProperties } from './request-properties.ts';
import { RequestSession, requestSessionOf, type SessionParts } from './request-session.ts';
import type { Seal } from './seal.ts';
import { sessionParts } from './session-parts.ts';
import type { UnparsedSession } from './session-records.ts';
import type { VerifiedId } from './signed-cookie.ts';
import type { SessionDeps } from './user-index.ts';

export interface SessionMiddlewareDeps extends SessionDeps {
  readonly deadlines: RequestDeadlines;
  readonly isMemory: boolean;
  /** The seals of all session middleware of the kit, with which `kit.sessions` opens sealed sessions. */
  readonly seals: Set<Seal>;
  readonly failurePolicies: FailurePolicies;
}

/** One call of the middleware. `hasResponse`: false for a WebSocket upgrade, whose `res` may be anything. */
interface Call {
  readonly req: Req;
  readonly res: ServerResponse;
  readonly hasResponse: boolean;
  readonly next: Next;
}

const AHEAD: unique symbol = Symbol('a session that was read ahead');

/** A session that was read before the turn of its middleware. The outcome never rejects. */
interface AheadRead {
  readonly reader: SessionHandler;
  readonly id: string;
  readonly outcome: Promise<{ readonly record: UnparsedSession | undefined } | { readonly error: unknown }>;
}

type RequestAhead = Req & { [AHEAD]?: AheadRead | undefined };

export function sessionMiddleware(options: SessionOptions<never>, deps: SessionMiddlewareDeps): Middleware {
  const settings = resolveSessionOptions(options);
  deps.seals.add(settings.seal);
  deps.failurePolicies.record('session', settings.onError);
  const handler = new SessionHandler(sessionParts(settings, deps));
  return withReadAhead(
    function session(req: IncomingMessage, res: ServerResponse, next: Next): void {
      checkMiddlewareCall('kit.session', req, next);
      handler.handle({ req: asExpress(req), res, hasResponse: isComplete(req, res), next });
    },
    (req) => handler.readAhead(asExpress(req)),
  );
}

class SessionHandler {
  readonly #parts: SessionParts;
  /** Whether a callback of the app takes part in a new session, so that its errors are passed to `next`. */
  readonly #isEager: boolean;

  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.#isEager = parts.settings.genid !== undefined || typeof parts.settings.cookie === 'function';
  }

  handle(call: Call): void {
    const { req, next } = call;
    let isSkipped: boolean;
    try {
      isSkipped = hasSession(req) || !this.#isInPath(req);
    } catch (error) {
      passError(call, error);
      return;
    }
    if (isSkipped) {
      next();
      return;
    }
    const ids = this.#parts.cookies.idsOf(req);
    if (ids.length === 0) runInTurnBatch(call, () => this.#start(call));
    else this.#load({ ...call, next: outsideOfPromise(next) }, ids);
  }

  /** Sends the read of the session without moving its idle deadline, since the request may be refused. */
  readAhead(req: RequestAhead): void {
    const { cookies, records, deadlines } = this.#parts;
    const [verified, another] = cookies.idsOf(req);
    if (verified === undefined || another !== undefined || hasSession(req)) return;
    const outcome = records.read(verified, false, deadlines.of(req)).then(
      (record) => ({ record }),
      (error: unknown) => ({ error }),
    );
    req[AHEAD] = { reader: this, id: verified.id, outcome };
  }

  /** Whether the path of a request begins with the path of the cookie, so that the client would send the cookie. */
  #isInPath(req: Req): boolean {
    const { cookie } = this.#parts.settings;
    const { path = '/' } = typeof cookie === 'function' ? cookie(req) : cookie;
    return pathOf(req).startsWith(path);
  }

  #load(call: Call, ids: readonly VerifiedId[]): void {
    const fail = (error: unknown) => this.#fail(call, error);
    const [first, ...others] = ids;
    if (first === undefined) this.#start(call);
    else if (others.length === 0) {
      this.#read(call.req, first).then((record) => this.#start(call, first.id, record), fail);
    } else {
      const { records, deadlines } = this.#parts;
      const newest = records.newestOf([first, ...others], deadlines.of(call.req));
      newest.then((verified) => this.#load(call, [verified]), fail);
    }
  }

  #read(req: RequestAhead, verified: VerifiedId): Promise<UnparsedSession | undefined> {
    const { records, deadlines } = this.#parts;
    const deadline = deadlines.of(req);
    const ahead = req[AHEAD];
    if (ahead?.reader !== this || ahead.id !== verified.id) return records.read(verified, true, deadline);
    // A later call of the same middleware must not find a session that has ended meanwhile.
    req[AHEAD] = undefined;
    return ahead.outcome.then((outcome) => {
      if ('error' in outcome) throw outcome.error;
      if (outcome.record?.isTouchDue === true) {
        records.touch(verified.id, deadline).catch((error: unknown) => records.reportFailure(error));
      }
      return outcome.record;
    });
  }

  #fail(call: Call, error: unknown): void {
    const { records, settings } = this.#parts;
    if (!(error instanceof RedisKitError) || error instanceof ConfigError) {
      passError(call, error);
      return;
    }
    records.reportFailure(error);
    if (settings.onError === 'anonymous') {
      const request = this.#requestOf(call);
      request.isDetached = true;
      this.#continue(call, request);
    } else if (call.hasResponse) sendUnavailable(call.res, 'session');
    else call.next(error);
  }

  #start(call: Call, id?: string, record?: UnparsedSession): void {
    this.#continue(call, this.#requestOf(call, id, record));
  }

  #requestOf({ req, res, hasResponse }: Call, id?: string, record?: UnparsedSession): RequestSession {
    return new RequestSession(this.#parts, { req, res: hasResponse ? res : undefined }, id, record);
  }

  /** Gives the request its session, and calls the next handler. */
  #continue(call: Call, request: RequestSession): void {
    try {
      defineProperties(call.req, request);
      if (request.isDetached || (this.#isEager && request.isNew)) request.touch();
      if (request.isDetached) request.dropCookie();
      if (call.hasResponse) addResponseHook(call.res, new CommitHook(request));
    } catch (error) {
      passError(call, error);
      return;
    }
    call.next();
  }
}

/** Whether an earlier session middleware has loaded a session. */
function hasSession(req: Req): boolean {
  const session: unknown = requestSessionOf(req)?.peek() ?? req.session;
  return Boolean(session);
}

/** The path that the client has requested, without the query. */
function pathOf(req: Req): string {
  const url = originalUrl(req);
  if (url.startsWith('/')) return url;
  // An absolute URL, as of a proxy, or the `*` of OPTIONS.
  return URL.canParse(url) ? new URL(url).pathname : url || '/';
}

/** Returns a `next` whose errors do not become a rejection of the promise in whose callback it is called. */
function outsideOfPromise(next: Next): Next {
  return function continueOutside(error) {
    try {
      next(error);
    } catch (thrown) {
      process.nextTick(() => {
        throw thrown;
      });
    }
  };
}
