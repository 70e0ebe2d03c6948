import type { ServerResponse } from 'node:http';

/** A refusal as RFC 9457 (Problem Details for HTTP APIs) spells it. */
export interface Problem {
  readonly status: 400 | 409 | 415 | 422 | 429 | 500 | 503 | 504;
  readonly title: string;
  readonly detail: string;
  /** A URI that names the kind of problem; without it the status says it all (`about:blank`). */
  readonly type?: string;
  /** Milliseconds after which a retry may pass; sent as `Retry-After` in whole seconds, rounded up. */
  readonly retryAfterMs?: number;
  readonly extensions?: Readonly<Record<string, unknown>>;
}

/** Retry-After is whole seconds (RFC 9110, section 10.2.3); rounding down would invite a retry that fails. */
function retryAfterSeconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000));
}

/**
 * Answers with a problem. The headers of this response that a handler set before are the caller's business. Does
 * nothing where another answer has begun: whoever began it will end it.
 */
export function sendProblem(res: ServerResponse, problem: Problem): void {
  if (res.headersSent) return;
  const { status, title, detail, type = 'about:blank', retryAfterMs, extensions } = problem;
  const body = Buffer.from(JSON.stringify({ type, title, status, detail, ...extensions }));
  res.statusCode = status;
  res.setHeader('Content-Type', 'application/problem+json; charset=utf-8');
  res.setHeader('Content-Length', body.length);
  // A refusal belongs to this moment and this client.
  res.setHeader('Cache-Control', 'no-store');
  if (retryAfterMs !== undefined) res.setHeader('Retry-After', retryAfterSeconds(retryAfterMs));
  res.end(body);
}

/** `Retry-After` of a refusal whose end cannot be predicted: an outage, a lock, a running request. */
export const RETRY_AFTER_MS = 1_000;

/** The refusal of a feature that needs Redis while Redis is not there. */
export function sendUnavailable(res: ServerResponse, feature: string): void {
  sendProblem(res, {
    status: 503,
    title: 'Service Unavailable',
    detail: `The ${feature} store cannot be reached at the moment.`,
    retryAfterMs: RETRY_AFTER_MS,
  });
}
