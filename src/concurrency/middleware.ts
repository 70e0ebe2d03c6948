import type { IncomingMessage, ServerResponse } from 'node:http';
import { performance } from 'node:perf_hooks';
import { asError, RedisKitError } from '../base/errors.ts';
import type { RequestDeadlines } from '../engine/deadline.ts';
import { internalPurposeOf } from '../http/internal-request.ts';
import { asExpress, type Middleware, type Next, type Res } from '../http/middleware.ts';
import { RETRY_AFTER_MS, sendProblem, sendUnavailable } from '../http/problem-details.ts';
import { closeSignalOf } from '../http/response/close-signal.ts';
import { callError } from '../http/response/complete-response.ts';
import { type MiddlewareOutcome, runMiddleware } from '../http/run-middleware.ts';
import { hold, slotsOf } from './hold.ts';
import { type ConcurrencyOptions, type ConcurrencyRefusal, resolveConcurrencyOptions } from './options.ts';
import { keyOf, limitOf } from './request.ts';
import { type Result, type SlotsDeps, type Store, takeSlot, type Wanted } from './slots.ts';

export interface ConcurrencyDeps extends SlotsDeps, Store {
  /** Counts in this process while Redis cannot. */
  readonly fallbackEngine: Store['engine'];
  readonly fallbackTurns: Store['turns'];
  readonly deadlines: RequestDeadlines;
}

export function concurrencyMiddleware(options: ConcurrencyOptions<never>, deps: ConcurrencyDeps): Middleware {
  const settings = resolveConcurrencyOptions(options);
  const { reporter } = deps;
  const { events } = reporter;
  if (settings.wait > 0) deps.turns.listen();
  const failed = (error: unknown) => void reporter.failure('concurrency', asError(error));

  async function limit(req: IncomingMessage, res: ServerResponse, next: Next): Promise<MiddlewareOutcome> {
    const key = await keyOf(req, settings);
    if (key === null) return 'continue';
    const { slots } = deps.keys.concurrency(key, settings.name);
    // Met twice on its way, it is one request all the same, and would wait for itself.
    if (slotsOf(req).has(slots)) return 'continue';
    const most = limitOf(req, settings);
    const { name, lease: leaseMs, wait: waitMs, maxQueue } = settings;
    const signal = waitMs > 0 ? closeSignalOf(res) : undefined;
    const deadline = deps.deadlines.of(req);
    const beganAt = performance.now();
    let result: Result | MiddlewareOutcome;
    try {
      result = await ask({ key, name, limit: most, leaseMs, waitMs, maxQueue, signal, deadline }, res);
    } catch (error) {
      if (signal?.aborted === true) return 'gone';
      throw error;
    }
    if (typeof result === 'string') return result;
    const { slot, running, hasWaited } = result;
    if (slot === undefined) return refuse(req, res, next, { key, limit: most, running, hasWaited });
    if (hasWaited) {
      events.emit('concurrency:waited', { key, waitedMs: Math.round(performance.now() - beganAt) });
    }
    // No client is left for which the handler should begin.
    if (signal?.aborted === true) {
      await slot.free();
      return 'gone';
    }
    hold(res, slot, () => slot.free(deadline));
    slotsOf(req).add(slots);
    return 'continue';
  }

  /** Asks Redis, or whoever the failure policy names. */
  async function ask(wanted: Wanted, res: ServerResponse): Promise<Result | MiddlewareOutcome> {
    const beganAt = performance.now();
    try {
      return await takeSlot(wanted, deps, deps);
    } catch (thrown) {
      if (!(thrown instanceof RedisKitError)) throw thrown;
      failed(thrown);
      const { onError } = settings;
      const isRefusedWaiter = deps.closing.aborted && wanted.waitMs > 0;
      if (onError === 'deny' || isRefusedWaiter) {
        sendUnavailable(res, 'concurrency');
        return 'answered';
      }
      if (reporter.isNewlyDegraded('concurrency')) events.emit('concurrency:degraded', { error: thrown });
      if (onError === 'allow') return 'continue';
      const waitMs = Math.max(0, Math.round(wanted.waitMs - (performance.now() - beganAt)));
      return takeSlot(
        { ...wanted, waitMs },
        { engine: deps.fallbackEngine, turns: deps.fallbackTurns },
        deps,
      );
    }
  }

  async function refuse(
    req: IncomingMessage,
    res: ServerResponse,
    next: Next,
    refusal: ConcurrencyRefusal,
  ): Promise<MiddlewareOutcome> {
    const { key, limit: most, running } = refusal;
    events.emit('concurrency:refused', { key, limit: most, running });
    if (settings.handler === undefined) sendRefusal(res);
    else await settings.handler(asExpress(req), res as Res, next, refusal);
    return 'answered';
  }

  return function concurrency(req: IncomingMessage, res: ServerResponse, next: Next): void {
    const unusable = callError('kit.concurrency', { req, res, next });
    // The kit's own requests count for no client.
    if (unusable !== undefined || internalPurposeOf(req) !== undefined) next(unusable);
    else runMiddleware({ req, res, next }, failed, (once) => limit(req, res, once));
  };
}

function sendRefusal(res: ServerResponse): void {
  sendProblem(res, {
    status: 429,
    title: 'Too Many Requests',
    detail: 'Too many requests are running at the same time.',
    retryAfterMs: RETRY_AFTER_MS,
  });
}
