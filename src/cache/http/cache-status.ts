import type { ServerResponse } from 'node:http';
import { isHeadOpen } from '../../http/response/guarded-response.ts';
import { type Entry, usabilityOf } from '../store/entry.ts';
import type { CacheSettings } from './options.ts';

/** This cache's member of Cache-Status (RFC 9211, section 2); undefined if the option `cacheStatus` is off. */
export function statusOf(settings: CacheSettings, parameters: string, key: string): string | undefined {
  if (settings.cacheStatus === undefined) return undefined;
  const shown = settings.debug ? `; key=${quoted(key)}` : '';
  return `${settings.cacheStatus}; ${parameters}${shown}`;
}

/** Why a request is forwarded (RFC 9211, section 2.2). `fwd=request`: its directives do not accept the fresh response. */
export function whyForwarded(stored: Entry<unknown> | undefined, now: number, miss: string): string {
  if (stored === undefined) return miss;
  return usabilityOf(stored, now) === 'fresh' ? 'fwd=request' : 'fwd=stale';
}

/** With the option `debug`, why a response is not stored (RFC 9211, section 2.8). */
export function detailOf({ debug }: CacheSettings, reason: string | undefined): string {
  return debug && reason !== undefined ? `; detail=${reason}` : '';
}

/** The value of Cache-Status with this cache's member added to those of other caches. */
export function withStatus(res: ServerResponse, status: string): string {
  const before = res.getHeader('Cache-Status');
  return before === undefined ? status : `${String(before)}, ${status}`;
}

export function addStatus(res: ServerResponse, status: string | undefined): void {
  if (status !== undefined && isHeadOpen(res)) res.setHeader('Cache-Status', withStatus(res, status));
}

/** A String of a structured field contains only printable ASCII (RFC 9651, section 3.3.3). */
function quoted(key: string): string {
  const printable = wellFormed(key).replace(/[^ -~]/gu, encodeURIComponent);
  return `"${printable.replace(/["\\]/g, '\\$&')}"`;
}

/** Replaces lone surrogates, which `encodeURIComponent` refuses. */
function wellFormed(text: string): string {
  return Buffer.from(text).toString();
}
