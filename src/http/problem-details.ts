import type { ServerResponse } from 'node:http';
import { closeIfBegun } from './response/begun-response.ts';
import { endWithText } from './response/end-with-text.ts';

/** Problem Details for HTTP APIs (RFC 9457). */
export interface Problem {
  readonly status: 400 | 409 | 415 | 422 | 429 | 500 | 503 | 504;
  readonly title: string;
  readonly detail: string;
  /** A URI that identifies the type of problem; default `about:blank`, which means that the status says all. */
  readonly type?: string;
  /** Milliseconds until a retry may succeed; sent as `Retry-After`. */
  readonly retryAfterMs?: number;
  readonly extensions?: Readonly<Record<string, unknown>>;
}

/** Sends a problem, and keeps headers that are already set. Closes a response that has already begun. */
export function sendProblem(res: ServerResponse, problem: Problem): void {
  if (closeIfBegun(res)) return;
  const { status, title, detail, type = 'about:blank', retryAfterMs, extensions } = problem;
  const text = JSON.stringify({ type, title, status, detail, ...extensions });
  const body = Buffer.from(text).toString('latin1');
  res.statusCode = status;
  res.setHeader('Content-Type', 'application/problem+json; charset=utf-8');
  res.setHeader('Content-Length', body.length);
  // A refusal is valid only for this client and this moment.
  res.setHeader('Cache-Control', 'no-store');
  if (retryAfterMs !== undefined) {
    // Whole seconds (RFC 9110, section 10.2.3), rounded up: an earlier retry would fail.
    res.setHeader('Retry-After', Math.max(1, Math.ceil(retryAfterMs / 1000)));
  }
  endWithText(res, body);
}

/** `Retry-After` for causes whose end is unknown: an outage, a held lock, a running request. */
export const RETRY_AFTER_MS = 1_000;

/** Refuses a request because a feature requires Redis and Redis is unavailable. */
export function sendUnavailable(res: ServerResponse, feature: string): void {
  sendProblem(res, {
    status: 503,
    title: 'Service Unavailable',
    detail: `The ${feature} store cannot be reached at the moment.`,
    retryAfterMs: RETRY_AFTER_MS,
  });
}
