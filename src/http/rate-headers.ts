import type { ServerResponse } from 'node:http';

/** What the RateLimit fields say of one policy. */
export interface QuotaFacts {
  /** Printable ASCII without quotes and backslashes. */
  readonly name: string;
  readonly limit: number;
  readonly remaining: number;
  readonly windowMs: number;
  readonly resetMs: number;
}

/**
 * `RateLimit-Policy` and `RateLimit` as draft-ietf-httpapi-ratelimit-headers-10 has them: lists of structured-field
 * items (RFC 9651), to which every limiter on the way of a request adds its own.
 */
export function addRateLimitFields(res: ServerResponse, quotas: readonly QuotaFacts[]): void {
  for (const { name, limit, remaining, windowMs, resetMs } of quotas) {
    append(res, 'RateLimit-Policy', `"${name}";q=${limit};w=${Math.ceil(windowMs / 1000)}`);
    append(res, 'RateLimit', `"${name}";r=${remaining};t=${Math.ceil(resetMs / 1000)}`);
  }
}

function append(res: ServerResponse, name: string, item: string): void {
  const before = res.getHeader(name);
  res.setHeader(name, before === undefined ? item : `${String(before)}, ${item}`);
}
