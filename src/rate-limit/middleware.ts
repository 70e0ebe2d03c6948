import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe } from '../base/check.ts';
import { RedisKitError } from '../base/errors.ts';
import type { BudgetOf } from '../engine/budget.ts';
import { clientAddress, networkOf } from '../http/client-address.ts';
import { asExpress, type Middleware, type Next, type Res } from '../http/middleware.ts';
import { type Outcome, settle } from '../http/outcome.ts';
import { sendProblem, sendUnavailable } from '../http/problem.ts';
import { addRateLimitFields } from '../http/rate-headers.ts';
import type { Decision } from './decision.ts';
import { type Limiter, LimiterCore, type RateLimitDeps } from './limiter.ts';
import { type RateLimitOptions, type RateLimitSettings, resolveRateLimitOptions } from './options.ts';

declare global {
  namespace Express {
    interface Request {
      /** The decision of the last rate limit that this request passed. */
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
  claimName(settings.policy.name);
  const limiter = new LimiterCore(settings.policy, settings.onError, deps);

  async function limit(req: IncomingMessage, res: ServerResponse, next: Next): Promise<Outcome> {
    const request = asExpress(req);
    if ((await settings.skip?.(request)) === true) return 'continue';
    const id = await identify(req, settings);
    if (id === null) return 'continue';
    let decision: Decision;
    try {
      decision = await limiter.consume(id, { cost: settings.cost(request) }, deps.budgetOf(req));
    } catch (error) {
      if (!isOutage(error)) throw error;
      sendUnavailable(res, 'rate-limit');
      return 'answered';
    }
    request.rateLimit = decision;
    if (settings.headers !== false) addRateLimitFields(res, quotas(decision, settings));
    if (decision.allowed) return 'continue';
    deps.reporter.events.emit('rate:refused', { id, policies: violated(decision) });
    if (settings.handler === undefined) sendRefusal(res, decision);
    else settings.handler(request, res as Res, next, decision);
    return 'answered';
  }

  function rateLimit(req: IncomingMessage, res: ServerResponse, next: Next): void {
    settle(limit(req, res, next), next);
  }
  return Object.assign(rateLimit, { limiter });
}

async function identify(
  req: IncomingMessage,
  { key, ipv6Subnet }: RateLimitSettings,
): Promise<string | null> {
  if (key === undefined) {
    const address = clientAddress(req);
    if (address !== undefined) return networkOf(address, ipv6Subnet);
    throw new RedisKitError(
      'ERR_REDIS_KIT_NO_IDENTITY',
      'kit.rateLimit: the request has no client address (a Unix socket, or a client that has gone); give the option `key`',
    );
  }
  const id = await key(asExpress(req));
  if (typeof id === 'string' || id === null) return id;
  throw new RedisKitError(
    'ERR_REDIS_KIT_NO_IDENTITY',
    `kit.rateLimit: option \`key\` returned ${describe(id)}; it must return a string, or null to skip the limit`,
  );
}

/** Errors of the store, as opposed to a callback's own. */
function isOutage(error: unknown): boolean {
  return error instanceof RedisKitError && error.code !== 'ERR_REDIS_KIT_CONFIG';
}

function violated(decision: Decision): string[] {
  return decision.policies.filter((policy) => !policy.allowed).map((policy) => policy.name);
}

function quotas(decision: Decision, { policy: { windowMs } }: RateLimitSettings) {
  return decision.policies.map((policy) => ({ ...policy, windowMs }));
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
