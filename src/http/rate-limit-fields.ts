import type { ServerResponse } from 'node:http';

export const RATE_HEADERS = ['draft-10', 'draft-8', 'draft-6', 'legacy'] as const;

/**
 * Formats of rate limit fields. `draft-10` and `draft-8`: the lists `RateLimit` and `RateLimit-Policy` of
 * draft-ietf-httpapi-ratelimit-headers, identical in both drafts for the parameters used here; each limiter appends its
 * policies. `draft-6`: `RateLimit-Limit`, `-Remaining` and `-Reset` in seconds. `legacy`: the same with `X-RateLimit-`,
 * and the reset as Unix time. `draft-6` and `legacy` describe one policy only: the one with the least remaining quota.
 */
export type RateHeaders = (typeof RATE_HEADERS)[number];

/** A policy of a limiter and its state for one client, as the fields describe them. */
export interface Quota {
  /** Printable ASCII without quotes or backslashes. */
  readonly name: string;
  readonly limit: number;
  readonly remaining: number;
  readonly windowMs: number;
  readonly resetMs: number;
}

/** Adds the fields to a response. Times are whole seconds, rounded up, so that no client retries too early. */
export function addRateLimitFields(
  res: ServerResponse,
  formats: readonly RateHeaders[],
  quotas: readonly Quota[],
): void {
  if (formats.length === 0) return;
  const wantsLists = formats.includes('draft-10') || formats.includes('draft-8');
  const wantsDraft6 = formats.includes('draft-6');
  if (wantsLists || wantsDraft6) appendLists(res, quotas, wantsLists);
  if (!wantsDraft6 && !formats.includes('legacy')) return;
  const tightest = quotas.reduce((least, quota) => (quota.remaining < least.remaining ? quota : least));
  if (wantsDraft6) setScalars(res, 'RateLimit-', tightest, seconds(tightest.resetMs));
  if (formats.includes('legacy')) {
    setScalars(res, 'X-RateLimit-', tightest, seconds(Date.now() + tightest.resetMs));
  }
}

/** Appends all policies at once: each call of `setHeader` takes as long as a policy. */
function appendLists(res: ServerResponse, quotas: readonly Quota[], isNamed: boolean): void {
  let policies = '';
  let limits = '';
  for (const { name, limit, remaining, windowMs, resetMs } of quotas) {
    const comma = policies === '' ? '' : ', ';
    policies += isNamed
      ? `${comma}"${name}";q=${limit};w=${seconds(windowMs)}`
      : `${comma}${limit};w=${seconds(windowMs)}`;
    limits += `${comma}"${name}";r=${remaining};t=${seconds(resetMs)}`;
  }
  append(res, 'RateLimit-Policy', policies);
  if (isNamed) append(res, 'RateLimit', limits);
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
