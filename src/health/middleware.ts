import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FailurePolicies } from '../base/failure-policies.ts';
import type { Middleware, Next } from '../http/middleware.ts';
import { checkMiddlewareCall } from '../http/mount-check.ts';
import { RETRY_AFTER_MS } from '../http/problem-details.ts';
import { closeIfBegun } from '../http/response/begun-response.ts';
import { endWithText } from '../http/response/end-with-text.ts';
import { runMiddleware } from '../http/run-middleware.ts';
import type { KitChecks } from './check.ts';
import { type HealthOptions, resolveHealthOptions } from './options.ts';

export interface HealthDeps {
  readonly checks: KitChecks;
  readonly failurePolicies: FailurePolicies;
  readonly closing: AbortSignal;
}

export function healthMiddleware(
  options: HealthOptions,
  { checks, failurePolicies, closing }: HealthDeps,
): Middleware {
  const { isLiveness, hasDetails, requireRedis } = resolveHealthOptions(options);

  async function answer(res: ServerResponse): Promise<void> {
    if (isLiveness) {
      send(res, 200, { ok: true });
      return;
    }
    const result = await (hasDetails ? checks.check() : checks.checkBriefly());
    const needsRedis = requireRedis ?? !failurePolicies.workWithoutRedis;
    const isReady = !closing.aborted && (result.ok || !needsRedis);
    send(res, isReady ? 200 : 503, result);
  }

  return function health(req: IncomingMessage, res: ServerResponse, next: Next): void {
    checkMiddlewareCall('kit.health', req, next);
    runMiddleware(
      { req, res, next },
      () => undefined,
      () => answer(res).then(() => 'answered' as const),
    );
  };
}

function send(res: ServerResponse, status: 200 | 503, content: object): void {
  // The client may have left, or a timeout of the app may have answered, while Redis was asked.
  if (closeIfBegun(res) || res.destroyed) return;
  const body = Buffer.from(JSON.stringify(content)).toString('latin1');
  res.statusCode = status;
  res.setHeader('Content-Type', 'application/json; charset=utf-8');
  res.setHeader('Content-Length', body.length);
  res.setHeader('Cache-Control', 'no-store');
  if (status === 503) res.setHeader('Retry-After', RETRY_AFTER_MS / 1000);
  endWithText(res, body);
}
