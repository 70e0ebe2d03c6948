import type { IncomingMessage, ServerResponse } from 'node:http';
import { asError, RedisKitError } from '../base/errors.ts';
import type { BudgetOf } from '../engine/budget.ts';
import { asExpress, type Middleware, type Next, type Res } from '../http/middleware.ts';
import { type Outcome, settle } from '../http/outcome.ts';
import { sendProblem, sendUnavailable } from '../http/problem.ts';
import { addRateHeaders } from '../http/rate-headers.ts';
import type { RateLimitDeps } from './ask.ts';
import type { Decision } from './decision.ts';
import { sharesOf } from './identity.ts';
import { type Limiter, LimiterCore } from './limiter.ts';
import { MisuseWatch } from './misuse.ts';
import { type RateLimitOptions, type RateLimitSettings, resolveRateLimitOptions } from './options.ts';

declare global {
  namespace Express {
    interface Request {
      /** The decision of the last rate limit that this request met. */
      rateLimit?: Decision;
    }
  }
}

export function rateLimitMiddleware(
  options: RateLimitOptions,
  deps: RateLimitDeps & { readonly budgetOf: BudgetOf },
  claimName: (name: string) => void,
): Middleware & { readonly limiter: Limiter } {
  const settings = resolveRateLimitOptions(options);
  const misuse = new MisuseWatch(deps.reporter);
  const names = settings.policies.map(({ policy }) => policy.name);
  misuse.checkCreation(names.join());
  for (const name of names) claimName(name);
  const limiter = new LimiterCore(
    { ...settings, policies: settings.policies.map(({ policy }) => policy) },
    deps,
  );

  async function limit(req: IncomingMessage, res: ServerResponse, next: Next): Promise<Outcome> {
    const request = asExpress(req);
    misuse.checkTwice(req, names.join());
    if ((await settings.skip?.(request)) === true) return 'continue';
    const shares = await sharesOf(req, settings, limiter, misuse);
    if (shares.length === 0) return 'continue';
    const cost = typeof settings.cost === 'function' ? settings.cost(request) : settings.cost;
    let decision: Decision;
    try {
      decision = await limiter.take(shares, cost, deps.budgetOf(req));
    } catch (error) {
      if (!(error instanceof RedisKitError) || error.code === 'ERR_REDIS_KIT_CONFIG') throw error;
      if (settings.shadow) return 'continue';
      sendUnavailable(res, 'rate-limit');
      return 'answered';
    }
    request.rateLimit = decision;
    if (!settings.shadow) addRateHeaders(res, settings.headers, quotas(decision, settings));
    if (decision.allowed) refundLater(req, res, decision);
    else
      deps.reporter.events.emit('rate:refused', {
        ids: shares.map(({ id }) => id),
        policies: violated(decision),
      });
    if (decision.allowed || settings.shadow) return 'continue';
    if (settings.handler === undefined) sendRefusal(res, decision);
    else settings.handler(request, res as Res, next, decision);
    return 'answered';
  }

  function refundLater(req: IncomingMessage, res: ServerResponse, decision: Decision): void {
    const { refundWhen } = settings;
    if (refundWhen === undefined) return;
    // 'close' comes once for every response, whether it was finished or its client went away.
    res.once('close', () => {
      try {
        if (refundWhen(asExpress(req), res as Res)) void limiter.refund(decision);
      } catch (error) {
        deps.reporter.failure('rate', asError(error));
      }
    });
  }

  function rateLimit(req: IncomingMessage, res: ServerResponse, next: Next): void {
    settle(limit(req, res, next), next);
  }
  return Object.assign(rateLimit, { limiter });
}

function violated(decision: Decision): string[] {
  return decision.policies.filter((policy) => !policy.allowed).map((policy) => policy.name);
}

function quotas(decision: Decision, { policies }: RateLimitSettings) {
  return decision.policies.map((quota) => {
    const policy = policies.find((each) => each.policy.name === quota.name)?.policy;
    return { ...quota, windowMs: policy?.windowMs(quota.limit) ?? 0 };
  });
}

function sendRefusal(res: ServerResponse, decision: Decision): void {
  sendProblem(res, {
    status: 429,
    // Registered by draft-ietf-httpapi-ratelimit-headers-10, section 5.
    type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
    title: 'Too Many Requests',
    detail: 'The request quota is used up for the moment.',
    ...(decision.retryAfterMs === null ? {} : { retryAfterMs: decision.retryAfterMs }),
    extensions: { 'violated-policies': violated(decision) },
  });
}
