import type { IncomingMessage, ServerResponse } from 'node:http';
import { checkedBoolean } from '../base/checked-boolean.ts';
import { asError, ConfigError, RedisKitError } from '../base/errors.ts';
import type { RequestDeadlines } from '../engine/deadline.ts';
import { clientAddressIn, networkOf } from '../http/client-address.ts';
import type { Front, FrontAnswer } from '../http/front.ts';
import { internalPurposeOf } from '../http/internal-request.ts';
import { asExpress, type Middleware, type Next, type Res } from '../http/middleware.ts';
import type { OuterHead } from '../http/outer-head.ts';
import { sendProblem, sendUnavailable } from '../http/problem-details.ts';
import { addRateLimitFields } from '../http/rate-limit-fields.ts';
import { withoutReadAhead } from '../http/read-ahead.ts';
import { closeSignalOf, onClose } from '../http/response/close-signal.ts';
import { callError } from '../http/response/complete-response.ts';
import { isClosed } from '../http/response/kit-reads.ts';
import { hasClientLeft } from '../http/response/unserved.ts';
import {
  callInBackground,
  type MiddlewareCall,
  type MiddlewareOutcome,
  type Outcome,
  runMiddleware,
} from '../http/run-middleware.ts';
import type { Decision, PolicyGroup, RateLimitDeps, RequestDecision } from './decision.ts';
import { type Limiter, PolicyLimiter } from './limiter.ts';
import { MisuseWatch } from './misuse.ts';
import { type RateLimitOptions, type RateLimitSettings, resolveRateLimitOptions } from './options.ts';
import { policyGroupsOf } from './policy-groups.ts';

declare global {
  namespace Express {
    interface Request {
      /** The decision of the last `kit.rateLimit` that handled this request. */
      rateLimit?: RequestDecision;
    }
  }
}

export function rateLimitMiddleware(
  options: RateLimitOptions<never>,
  deps: RateLimitDeps & { readonly deadlines: RequestDeadlines; readonly front: Front },
  claimNames: (names: readonly string[]) => void,
): Middleware & { readonly limiter: Limiter } {
  const settings = resolveRateLimitOptions(options);
  const policies = settings.policies.map(({ policy }) => policy);
  const names = policies.map(({ name }) => name);
  claimNames(names);
  deps.failurePolicies.record('rate', settings.onError);
  const misuse = new MisuseWatch(deps.reporter, names.join());
  const limiter = new PolicyLimiter({ ...settings, policies }, deps);
  const reportFailure = (error: unknown) => void deps.reporter.failure('rate', asError(error));

  function limit(req: IncomingMessage, res: ServerResponse, next: Next): Outcome {
    const { skip } = settings;
    if (skip === undefined) return count(req, res, next);
    const given: unknown = skip(asExpress(req));
    const follow = (isSkipped: unknown) =>
      checkedBoolean('kit.rateLimit: option `skip`', isSkipped) ? 'continue' : count(req, res, next);
    return typeof given === 'boolean' ? follow(given) : Promise.resolve(given).then(follow);
  }

  function count(req: IncomingMessage, res: ServerResponse, next: Next): Outcome {
    misuse.checkCountedTwice(req);
    const groups = policyGroupsOf(req, settings, limiter, misuse);
    if (groups instanceof Promise) return groups.then((each) => decide(each, { req, res, next }));
    return decide(groups, { req, res, next });
  }

  function decide(groups: readonly PolicyGroup[], call: MiddlewareCall): Outcome {
    if (groups.length === 0) return 'continue';
    const cost = typeof settings.cost === 'function' ? settings.cost(asExpress(call.req)) : settings.cost;
    const known = limiter.spend(groups, cost) ?? limiter.knownRefusal(groups, cost);
    if (known !== undefined) return () => act(known, groups, call);
    return limiter.take(groups, cost, deps.deadlines.of(call.req), leaves(call.res)).then(
      (decision) => act(decision, groups, call),
      (error: unknown) => {
        if (settings.shadow || !(error instanceof RedisKitError) || error instanceof ConfigError) throw error;
        sendUnavailable(call.res, 'rate-limit');
        return 'answered';
      },
    );
  }

  function act(
    decision: Decision,
    groups: readonly PolicyGroup[],
    { req, res, next }: MiddlewareCall,
  ): MiddlewareOutcome | Promise<MiddlewareOutcome> {
    const request = asExpress(req);
    // The same object, so that `limiter.refund(req.rateLimit)` finds the decision.
    request.rateLimit = Object.assign(decision, {
      settle: (actual: number) => limiter.settle(decision, actual),
    });
    if (settings.front && !decision.allowed) learnFront(req, res, groups);
    if (!(settings.shadow || res.headersSent)) {
      addRateLimitFields(res, settings.headers, quotasOf(decision, settings));
    }
    if (decision.allowed) {
      refundWhenOver(req, res, decision);
      return 'continue';
    }
    emitRefusal(
      groups.map(({ id }) => id),
      decision,
    );
    if (settings.shadow) return 'continue';
    if (settings.handler === undefined) {
      sendRefusal(res, decision);
      return 'answered';
    }
    const handled: unknown = settings.handler(request, res as Res, next, decision);
    return Promise.resolve(handled).then(() => 'answered');
  }

  /** Aborts when the client leaves. Only a request that may wait needs the signal. */
  function leaves(res: ServerResponse): AbortSignal | undefined {
    return settings.wait === undefined ? undefined : closeSignalOf(res);
  }

  function emitRefusal(ids: readonly string[], decision: Decision): void {
    deps.reporter.events.emit('rate:refused', { ids, policies: violatedPolicies(decision) });
  }

  /** Lets the front of the kit refuse, from now on, what this process knows to be refused. */
  function learnFront(req: IncomingMessage, res: ServerResponse, groups: readonly PolicyGroup[]): void {
    const { app } = req as { app?: object };
    // Another id means that middleware above sets `req.ip`, which is unknown to the front.
    if (groups.length !== 1 || groups[0]?.id !== idAtFront(req, app)) return;
    const send: FrontAnswer['send'] = (later, response, outer) => refuseAtFront(app, later, response, outer);
    deps.front.learn(req, res, 'path', { source: limiter, id: '', send });
  }

  function idAtFront(req: IncomingMessage, app: object | undefined): string | undefined {
    const address = clientAddressIn(app, req);
    return address === undefined ? undefined : networkOf(address, settings.ipv6Subnet);
  }

  function refuseAtFront(
    app: object | undefined,
    req: IncomingMessage,
    res: ServerResponse,
    outer: OuterHead,
  ): boolean {
    const id = idAtFront(req, app);
    if (id === undefined || typeof settings.cost === 'function') return false;
    const decision = limiter.knownRefusal([limiter.groups.ofAll(id, undefined)], settings.cost);
    if (decision === undefined) return false;
    outer.applyTo(res);
    addRateLimitFields(res, settings.headers, quotasOf(decision, settings));
    emitRefusal([id], decision);
    sendRefusal(res, decision);
    return true;
  }

  /** Shadow mode never blocks: an error is reported, and the request continues. */
  async function limitInShadow(
    req: IncomingMessage,
    res: ServerResponse,
    next: Next,
  ): Promise<MiddlewareOutcome> {
    try {
      const outcome = await limit(req, res, next);
      return typeof outcome === 'function' ? await outcome() : outcome;
    } catch (error) {
      if (!hasClientLeft(req, res)) reportFailure(error);
      return 'continue';
    }
  }

  function refundWhenOver(req: IncomingMessage, res: ServerResponse, decision: Decision): void {
    const { refundWhen } = settings;
    if (refundWhen === undefined) return;
    const refund = () =>
      callInBackground(async () => {
        const isRefunded: unknown = await refundWhen(asExpress(req), res as Res);
        if (checkedBoolean('kit.rateLimit: option `refundWhen`', isRefunded)) await limiter.refund(decision);
      }, reportFailure);
    // Every response emits 'close' once, even if the client has gone before the end.
    if (isClosed(res)) refund();
    else onClose(res, refund);
  }

  function rateLimit(req: IncomingMessage, res: ServerResponse, next: Next): void {
    const error = callError('kit.rateLimit', { req, res, next });
    // The kit's own requests, which no client sent, use no quota.
    if (error !== undefined || internalPurposeOf(req) !== undefined) {
      next(error);
      return;
    }
    const handle = settings.shadow ? limitInShadow : limit;
    runMiddleware({ req, res, next }, reportFailure, (once) => handle(req, res, once));
  }
  const middleware = Object.assign(rateLimit, { limiter });
  // A request that waits for its units must then see what requests before it have changed.
  return settings.wait === undefined ? withoutReadAhead(middleware) : middleware;
}

function violatedPolicies(decision: Decision): string[] {
  return decision.policies.filter((policy) => !policy.allowed).map((policy) => policy.name);
}

function quotasOf(decision: Decision, { policies }: RateLimitSettings) {
  return decision.policies.map((quota) => {
    const policy = policies.find((each) => each.policy.name === quota.name)?.policy;
    return { ...quota, windowMs: policy?.windowMs(quota.limit) ?? 0 };
  });
}

function sendRefusal(res: ServerResponse, decision: Decision): void {
  sendProblem(res, {
    status: 429,
    // The problem type that draft-ietf-httpapi-ratelimit-headers-10, section 5, registers.
    type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
    title: 'Too Many Requests',
    detail:
      decision.retryAfterMs === null
        ? 'The request costs more than the whole quota.'
        : 'The request quota is used up.',
    ...(decision.retryAfterMs === null ? {} : { retryAfterMs: decision.retryAfterMs }),
    extensions: { 'violated-policies': violatedPolicies(decision) },
  });
}
