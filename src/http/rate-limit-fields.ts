import type { ServerResponse } from 'node:http';

export const RATE_HEADERS = ['draft-10', 'draft-8', 'draft-6', 'legacy'] as const;

/**
 * How a quota is told. `draft-10` and `draft-8` are the lists RateLimit and RateLimit-Policy of
 * draft-ietf-httpapi-ratelimit-headers, which are the same in both as far as they are used here; every limiter on
 * the way of a request adds its own. `draft-6` has RateLimit-Limit, -Remaining and -Reset (seconds), `legacy` the
 * same with X- and the reset as Unix time; they have room for one policy, the one with the least left.
 */
export type RateHeaders = (typeof RATE_HEADERS)[number];

/** What the fields say of one policy. */
export interface Quota {
  /** Printable ASCII without quotes and backslashes. */
  readonly name: string;
  readonly limit: number;
  readonly remaining: number;
  readonly windowMs: number;
  readonly resetMs: number;
}

/** Adds the fields to a response. Times are whole seconds, rounded up: a client that waits so long is not early. */
export function addRateLimitFields(
  res: ServerResponse,
  styles: readonly RateHeaders[],
  quotas: readonly Quota[],
): void {
  const wantsLists = styles.includes('draft-10') || styles.includes('draft-8');
  for (const { name, limit, remaining, windowMs, resetMs } of wantsLists ? quotas : []) {
    append(res, 'RateLimit-Policy', `"${name}";q=${limit};w=${seconds(windowMs)}`);
    append(res, 'RateLimit', `"${name}";r=${remaining};t=${seconds(resetMs)}`);
  }
  const wantsSixth = styles.includes('draft-6');
  for (const { limit, windowMs } of wantsSixth && !wantsLists ? quotas : []) {
    append(res, 'RateLimit-Policy', `${limit};w=${seconds(windowMs)}`);
  }
  const tightest = quotas.reduce((least, quota) => (quota.remaining < least.remaining ? quota : least));
  if (wantsSixth) setScalars(res, 'RateLimit-', tightest, seconds(tightest.resetMs));
  if (styles.includes('legacy')) {
    setScalars(res, 'X-RateLimit-', tightest, seconds(Date.now() + tightest.resetMs));
  }
}

function setScalars(res: ServerResponse, prefix: string, { limit, remaining }: Quota, reset: number): void {
  const before = res.getHeader(`${prefix}Remaining`);
  if (before !== undefined && Number(before) <= remaining) return;
  res.setHeader(`${prefix}Limit`, limit);
  res.setHeader(`${prefix}Remaining`, remaining);
  res.setHeader(`${prefix}Reset`, reset);
}

function append(res: ServerResponse, name: string, item: string): void {
  const before = res.getHeader(name);
  res.setHeader(name, before === undefined ? item : `${String(before)}, ${item}`);
}

function seconds(ms: number): number {
  return Math.ceil(ms / 1000);
}
