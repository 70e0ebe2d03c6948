import type { IncomingMessage, ServerResponse } from 'node:http';
import { performance } from 'node:perf_hooks';
import { asError, RedisKitError } from '../base/errors.ts';
import type { FailurePolicies } from '../base/failure-policies.ts';
import type { Keys } from '../base/keys.ts';
import type { RequestDeadlines } from '../engine/deadline.ts';
import { internalPurposeOf } from '../http/internal-request.ts';
import { asExpress, type Middleware, type Next, type Res } from '../http/middleware.ts';
import { RETRY_AFTER_MS, sendProblem, sendUnavailable } from '../http/problem-details.ts';
import { callError } from '../http/response/complete-response.ts';
import { type MiddlewareOutcome, runMiddleware } from '../http/run-middleware.ts';
import { type ConcurrencyOptions, type ConcurrencyRefusal, resolveConcurrencyOptions } from './options.ts';
import { keyOf, limitOf } from './request-limit.ts';
import { RequestedSlot, releaseWithResponse } from './request-slot.ts';
import { claimSlot, type SlotBackend, type SlotDeps, type SlotResult } from './slot.ts';

export interface ConcurrencyDeps extends SlotBackend, SlotDeps {
  readonly keys: Keys;
  /** The in-process fallback, which counts slots while Redis is unavailable. */
  readonly fallbackEngine: SlotBackend['engine'];
  readonly fallbackChannel: SlotBackend['processChannel'];
  readonly deadlines: RequestDeadlines;
  readonly failurePolicies: FailurePolicies;
}

const SLOTS: unique symbol = Symbol('the slots that the request has');

/** The Redis keys of the limits in which a request has a slot. */
function slotsOf(req: IncomingMessage & { [SLOTS]?: string[] }): string[] {
  req[SLOTS] ??= [];
  return req[SLOTS];
}

export function concurrencyMiddleware(options: ConcurrencyOptions<never>, deps: ConcurrencyDeps): Middleware {
  const settings = resolveConcurrencyOptions(options);
  deps.failurePolicies.record('concurrency', settings.onError);
  const { reporter } = deps;
  const { events } = reporter;
  if (settings.wait > 0) deps.processChannel.subscribe();
  const failed = (error: unknown) => void reporter.failure('concurrency', asError(error));

  async function limitRequest(
    req: IncomingMessage,
    res: ServerResponse,
    next: Next,
  ): Promise<MiddlewareOutcome> {
    const given = keyOf(req, settings);
    const key = typeof given === 'string' ? given : await given;
    if (key === null) return 'continue';
    const redisKeys = deps.keys.concurrency(key, settings.name);
    // A request that passes the same limit twice takes one slot. For a second slot, the request could wait for itself.
    const ownSlots = slotsOf(req);
    if (ownSlots.includes(redisKeys.slots)) return 'continue';
    const limit = limitOf(req, settings);
    const request = new RequestedSlot({ redisKeys, limit }, settings, res, deps.deadlines.of(req));
    if (request.isGone) return 'gone';
    const startedAt = performance.now();
    let result: SlotResult | MiddlewareOutcome;
    try {
      result = await claimSlot(request, deps, deps).catch((error: unknown) =>
        handleFailure(error, request, { res, spentMs: performance.now() - startedAt }),
      );
    } catch (error) {
      if (request.isGone) return 'gone';
      throw error;
    }
    if (typeof result === 'string') return result;
    const { slot, running, hasWaited } = result;
    if (request.isGone) {
      await slot?.release();
      return 'gone';
    }
    if (slot === undefined) return refuse(req, res, next, { key, limit, running, hasWaited });
    if (hasWaited) {
      events.emit('concurrency:waited', { key, waitedMs: Math.round(performance.now() - startedAt) });
    }
    releaseWithResponse(res, slot, request.deadline);
    ownSlots.push(redisKeys.slots);
    return 'continue';
  }

  /** Follows the failure policy after a claim that has failed `spentMs` after its begin. */
  async function handleFailure(
    error: unknown,
    request: RequestedSlot,
    { res, spentMs }: { readonly res: ServerResponse; readonly spentMs: number },
  ): Promise<SlotResult | MiddlewareOutcome> {
    if (!(error instanceof RedisKitError)) throw error;
    failed(error);
    const { onError } = settings;
    const isWaiterOfClosedKit = deps.closing.aborted && request.waitMs > 0;
    if (onError === 'deny' || isWaiterOfClosedKit) {
      sendUnavailable(res, 'concurrency');
      return 'answered';
    }
    if (reporter.isNewlyDegraded('concurrency')) events.emit('concurrency:degraded', { error });
    if (onError === 'allow') return 'continue';
    const waitMs = Math.max(0, Math.round(request.waitMs - spentMs));
    const fallback = { engine: deps.fallbackEngine, processChannel: deps.fallbackChannel };
    return claimSlot(request.withWait(waitMs), fallback, deps);
  }

  async function refuse(
    req: IncomingMessage,
    res: ServerResponse,
    next: Next,
    refusal: ConcurrencyRefusal,
  ): Promise<MiddlewareOutcome> {
    const { key, limit, running } = refusal;
    events.emit('concurrency:refused', { key, limit, running });
    if (settings.handler === undefined) sendRefusal(res);
    else await settings.handler(asExpress(req), res as Res, next, refusal);
    return 'answered';
  }

  return function concurrency(req: IncomingMessage, res: ServerResponse, next: Next): void {
    const call = { req, res, next };
    const unusable = callError('kit.concurrency', call);
    // Requests that the kit itself sends to the app have no client and are not counted.
    if (unusable !== undefined || internalPurposeOf(req) !== undefined) next(unusable);
    else runMiddleware(call, failed, (once) => limitRequest(req, res, once));
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
