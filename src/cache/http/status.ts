import type { ServerResponse } from 'node:http';
import { isHeadOpen } from '../../http/response/guarded-response.ts';
import { type Entry, usabilityOf } from '../store/entry.ts';
import type { CacheSettings } from './options.ts';

/** What Cache-Status says after the name of this cache (RFC 9211, section 2). */
export function statusOf(settings: CacheSettings, what: string, key: string): string | undefined {
  if (settings.cacheStatus === undefined) return undefined;
  const shown = settings.debug ? `; key=${quoted(key)}` : '';
  return `${settings.cacheStatus}; ${what}${shown}`;
}

/** Why a request is forwarded: of a stored response that is fresh it accepts less than that (RFC 9211, section 2.2). */
export function whyForwarded(stored: Entry<unknown> | undefined, now: number, miss: string): string {
  if (stored === undefined) return miss;
  return usabilityOf(stored, now) === 'fresh' ? 'fwd=request' : 'fwd=stale';
}

/** Why a response is not stored, where the developer asked to see that (RFC 9211, section 2.8). */
export function detailOf({ debug }: CacheSettings, reason: string | undefined): string {
  return debug && reason !== undefined ? `; detail=${reason}` : '';
}

/** Each cache on the way adds itself to the list. */
export function withStatus(res: ServerResponse, status: string): string {
  const before = res.getHeader('Cache-Status');
  return before === undefined ? status : `${String(before)}, ${status}`;
}

export function addStatus(res: ServerResponse, status: string | undefined): void {
  if (status !== undefined && isHeadOpen(res)) res.setHeader('Cache-Status', withStatus(res, status));
}

/** A string of a structured field has printable ASCII only (RFC 9651, section 3.3.3). */
function quoted(key: string): string {
  const printable = wellFormed(key).replace(/[^ -~]/gu, encodeURIComponent);
  return `"${printable.replace(/["\\]/g, '\\$&')}"`;
}

/** A URL may hold half of a surrogate pair, which has no code. */
function wellFormed(text: string): string {
  return Buffer.from(text).toString();
}
