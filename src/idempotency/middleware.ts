import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError, type ErrorCode, RedisKitError } from '../base/errors.ts';
import { asExpress, type Middleware, type Next, type Res } from '../http/middleware.ts';
import { sendUnavailable } from '../http/problem-details.ts';
import { closeSignalOf } from '../http/response/close-signal.ts';
import { callError } from '../http/response/complete-response.ts';
import { isResponseOver } from '../http/response/unserved.ts';
import { type MiddlewareCall, type MiddlewareOutcome, runMiddleware } from '../http/run-middleware.ts';
import type { IdempotencyDeps } from './attempt.ts';
import { fingerprintOf } from './fingerprint.ts';
import { keyOf } from './key-header.ts';
import { type IdempotencyOptions, resolveIdempotencyOptions } from './options.ts';
import { replayResponse } from './recorded-response.ts';
import { IdempotencyRecords, type KeyState } from './records.ts';
import { type IdempotencyRefusal, refusalFor, sendRefusal } from './refusal.ts';
import { recordResponse } from './response-recorder.ts';
import { scopeOf } from './scope.ts';

declare global {
  namespace Express {
    interface Request {
      /** The key of this request and the number of its attempt; above 1, an earlier attempt may have done some work. */
      idempotency?: { readonly key: string; readonly attempt: number };
    }
  }
}

/** Errors after which `onError: 'allow'` runs no request: a request with the key may have run, or the kit is closed. */
const NO_OUTAGE: ReadonlySet<ErrorCode> = new Set([
  'ERR_REDIS_KIT_NEWER_FORMAT',
  'ERR_REDIS_KIT_CORRUPT',
  'ERR_REDIS_KIT_CLOSED',
]);

const UNREAD_BODY =
  'kit.idempotency: a request with a key was refused with 415, because its body is neither in req.body nor in req.rawBody, so a retry cannot be distinguished from another request; to accept such requests, put a parser for their bodies (for example express.json()) before kit.idempotency, or give the option `fingerprint`';

export function idempotencyMiddleware(options: IdempotencyOptions<never>, deps: IdempotencyDeps): Middleware {
  const settings = resolveIdempotencyOptions(options);
  deps.failurePolicies.record('idempotency', settings.onError);
  const records = new IdempotencyRecords(settings, deps);
  const { reporter } = deps;
  const failed = (error: unknown) => void reporter.failure('idempotency', asError(error));
  const warn = (message: string) => void reporter.warning(message);

  async function handle(call: MiddlewareCall): Promise<MiddlewareOutcome> {
    const { req, res } = call;
    const field = req.headers[settings.header];
    if (field === undefined) return refuse(call, refusalFor('missing-key', undefined));
    const key = keyOf(String(field));
    if (key === undefined) return refuse(call, refusalFor('malformed-key', undefined));
    const givenScope = scopeOf(req, settings.scope, warn);
    const scope = typeof givenScope === 'string' ? givenScope : await givenScope;
    const given = fingerprintOf(req, settings.fingerprint);
    const fingerprint = given instanceof Promise ? await given : given;
    if (typeof fingerprint === 'string') {
      if (fingerprint === 'unread-body') warn(UNREAD_BODY);
      return refuse(call, refusalFor(fingerprint, key));
    }
    if (isResponseOver(res)) return 'gone';
    const deadline = deps.deadlines.of(req);
    const signal = settings.waits ? closeSignalOf(res) : undefined;
    let state: KeyState;
    try {
      state = await records.claim({ scope, key, fingerprint, deadline, signal });
    } catch (error) {
      return isResponseOver(res) ? 'gone' : handleFailure(error, res, settings.onError === 'allow');
    }
    if (isResponseOver(res)) {
      if (state.kind === 'attempt') state.attempt.withdraw();
      return 'gone';
    }
    return respond(call, key, state);
  }

  function respond(
    call: MiddlewareCall,
    key: string,
    state: KeyState,
  ): MiddlewareOutcome | Promise<MiddlewareOutcome> {
    const { req, res } = call;
    if (state.kind === 'attempt') {
      const { attempt } = state;
      asExpress(req).idempotency = { key, attempt: attempt.number };
      recordResponse(req, res, attempt, { settings, deadline: deps.deadlines.of(req), reporter });
      return 'continue';
    }
    if (state.kind === 'unknown') return handleFailure(state.error, res, false);
    if (state.kind !== 'replay') return refuse(call, refusalFor(state.kind, key));
    replayResponse(req, res, state.response);
    return 'answered';
  }

  async function refuse(
    { req, res, next }: MiddlewareCall,
    refusal: IdempotencyRefusal,
  ): Promise<MiddlewareOutcome> {
    const { key, reason } = refusal;
    reporter.events.emit('idempotency:refused', { key, reason });
    if (settings.handler === undefined) sendRefusal(res, refusal);
    else await settings.handler(asExpress(req), res as Res, next, refusal);
    return 'answered';
  }

  function handleFailure(error: unknown, res: ServerResponse, mayRun: boolean): MiddlewareOutcome {
    if (!(error instanceof RedisKitError)) throw error;
    failed(error);
    if (mayRun && !NO_OUTAGE.has(error.code)) return 'continue';
    sendUnavailable(res, 'idempotency');
    return 'answered';
  }

  return function idempotency(req: IncomingMessage, res: ServerResponse, next: Next): void {
    const call = { req, res, next };
    const unusable = callError('kit.idempotency', call);
    // A second kit.idempotency would refuse the request, since the attempt of the first is in flight.
    const isSkipped =
      !settings.methods.has(req.method ?? '') ||
      (req.headers[settings.header] === undefined && !settings.required) ||
      asExpress(req).idempotency !== undefined;
    if (unusable !== undefined || isSkipped) next(unusable);
    else runMiddleware(call, failed, (once) => handle({ req, res, next: once }));
  };
}
