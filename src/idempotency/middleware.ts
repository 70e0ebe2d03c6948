import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError, type ErrorCode, RedisKitError } from '../base/errors.ts';
import type { RequestDeadlines } from '../engine/deadline.ts';
import { asExpress, type Middleware, type Next, type Res } from '../http/middleware.ts';
import { sendUnavailable } from '../http/problem-details.ts';
import { closeSignalOf } from '../http/response/close-signal.ts';
import { callError } from '../http/response/complete-response.ts';
import { type MiddlewareOutcome, runMiddleware } from '../http/run-middleware.ts';
import { sendAnswer } from './answer.ts';
import { captureAnswer } from './capture.ts';
import { fingerprintOf } from './fingerprint.ts';
import { keyOf } from './key-field.ts';
import { type IdempotencyOptions, resolveIdempotencyOptions } from './options.ts';
import { type Beginning, IdempotencyRecords, type RecordsDeps } from './records.ts';
import { type IdempotencyRefusal, refusalFor, sendRefusal } from './refusal.ts';
import { scopeOf } from './scope.ts';

declare global {
  namespace Express {
    interface Request {
      /** The key that this request runs for, and which try it is: above 1, an earlier one may have done a part. */
      idempotency?: { readonly key: string; readonly attempt: number };
    }
  }
}

/** The request may have run, or run now: its record cannot be read, or the kit closes and waits for it. */
const NO_OUTAGE: ReadonlySet<ErrorCode> = new Set([
  'ERR_REDIS_KIT_NEWER_FORMAT',
  'ERR_REDIS_KIT_CORRUPT',
  'ERR_REDIS_KIT_CLOSED',
]);

/** Whether the client sent what the app does not take, or the app has no parser, shows in its code only. */
const UNREAD_BODY =
  'kit.idempotency: a request with a key was refused with 415, since its body is neither in req.body nor in req.rawBody, so a retry could not be told from another request; if it should run, put what parses such bodies (express.json() and its like) before kit.idempotency, or give the option `fingerprint`';

export function idempotencyMiddleware(
  options: IdempotencyOptions<never>,
  deps: RecordsDeps & { readonly deadlines: RequestDeadlines },
): Middleware {
  const settings = resolveIdempotencyOptions(options);
  const records = new IdempotencyRecords(settings, deps);
  const { reporter } = deps;
  const failed = (error: unknown) => void reporter.failure('idempotency', asError(error));
  const warn = (message: string) => void reporter.warning(message);

  async function answer(req: IncomingMessage, res: ServerResponse, next: Next): Promise<MiddlewareOutcome> {
    const field = req.headers[settings.header];
    if (field === undefined && !settings.required) return 'continue';
    if (field === undefined) return refuse(req, res, next, refusalFor('missing-key', undefined));
    const key = keyOf(String(field));
    if (key === undefined) return refuse(req, res, next, refusalFor('malformed-key', undefined));
    const scope = await scopeOf(req, settings.scope, warn);
    const fingerprint = await fingerprintOf(req, settings.fingerprint);
    if (typeof fingerprint === 'string') {
      if (fingerprint === 'unread-body') warn(UNREAD_BODY);
      return refuse(req, res, next, refusalFor(fingerprint, key));
    }
    let beginning: Beginning;
    try {
      beginning = await records.begin(
        { scope, key, fingerprint },
        deps.deadlines.of(req),
        settings.waits ? closeSignalOf(res) : undefined,
      );
    } catch (error) {
      return withoutAnswer(error, res, settings.onError === 'allow');
    }
    if (beginning.kind === 'gone') return 'gone';
    if (beginning.kind === 'lost-sight') return withoutAnswer(beginning.error, res, false);
    if (beginning.kind === 'run') {
      const { run } = beginning;
      asExpress(req).idempotency = { key, attempt: run.attempt };
      captureAnswer(req, res, { run, key, settings, deadline: deps.deadlines.of(req), reporter });
      return 'continue';
    }
    if (beginning.kind !== 'replay') return refuse(req, res, next, refusalFor(beginning.kind, key));
    sendAnswer(req, res, beginning.answer);
    return 'answered';
  }

  async function refuse(
    req: IncomingMessage,
    res: ServerResponse,
    next: Next,
    refusal: IdempotencyRefusal,
  ): Promise<MiddlewareOutcome> {
    const { key, reason } = refusal;
    reporter.events.emit('idempotency:refused', { key, reason });
    if (settings.handler === undefined) sendRefusal(res, refusal);
    else await settings.handler(asExpress(req), res as Res, next, refusal);
    return 'answered';
  }

  function withoutAnswer(error: unknown, res: ServerResponse, mayRun: boolean): MiddlewareOutcome {
    if (!(error instanceof RedisKitError)) throw error;
    failed(error);
    if (mayRun && !NO_OUTAGE.has(error.code)) return 'continue';
    sendUnavailable(res, 'idempotency');
    return 'answered';
  }

  return function idempotency(req: IncomingMessage, res: ServerResponse, next: Next): void {
    const unusable = callError('kit.idempotency', { req, res, next });
    // Mounted twice: the first has the request, and the second would wait for it.
    const isLeftAlone = !settings.methods.has(req.method ?? '') || asExpress(req).idempotency !== undefined;
    if (unusable !== undefined || isLeftAlone) next(unusable);
    else runMiddleware({ req, res, next }, failed, (once) => answer(req, res, once));
  };
}
