import type { OutgoingHttpHeaders } from 'node:http';
import { type CacheControl, MAX_SECONDS } from '../../http/message/cache-control.ts';
import { parseHttpDate } from '../../http/message/http-date.ts';
import { trimWhitespace } from '../../http/message/optional-whitespace.ts';
import type { Lifetime } from '../store/entry.ts';
import type { CacheSettings } from './options.ts';
import { type HandlerHead, hasValidator, needsValidation } from './storable.ts';

const SECOND = 1_000;
const DAY_MS = 86_400_000;

/** A stale response is kept for validation as long as it was fresh, within these bounds, since it costs memory. */
const MIN_VALIDATABLE_MS = 60_000;
const MAX_VALIDATABLE_MS = 3_600_000;

/** The statuses that may get a heuristic lifetime (RFC 9110, section 15.1). */
const HEURISTICALLY_CACHEABLE = new Set([200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501]);

/** The options that decide a lifetime. Durations are in milliseconds. */
interface FreshnessRules
  extends Pick<CacheSettings, 'staleWhileRevalidate' | 'staleIfError' | 'jitter' | 'heuristics'> {
  readonly ttl: number | undefined;
}

interface TimedResponse extends HandlerHead {
  /** When the handler was called, in milliseconds since the epoch. */
  readonly requestedAt: number;
}

/** How long a response may be used; undefined if no lifetime is set or the lifetime has ended. */
export function lifetimeOf(response: TimedResponse, rules: FreshnessRules): Lifetime | undefined {
  const { effective, general } = response.directives;
  const hasTtl = rules.ttl !== undefined;
  const ageMs = initialAge(response);
  const lifetimeMs = rules.ttl ?? explicitOrHeuristicLifetime(response, rules.heuristics);
  const validatableMs = hasValidator(response.status, response.own) ? validatableTime(lifetimeMs ?? 0) : 0;
  if (needsValidation(response.directives, hasTtl)) return { ...NEVER_FRESH, ageMs, validatableMs };
  if (lifetimeMs === undefined) return undefined;
  // The app's `ttl` starts now. A lifetime that the response sets started when the origin generated the response.
  const leftMs = hasTtl ? lifetimeMs : lifetimeMs - ageMs;
  const freshMs = Math.round(leftMs * (1 - rules.jitter * Math.random()));
  if (leftMs <= 0 || freshMs <= 0) return undefined;
  const isStrict = forbidsStale(effective, hasTtl) || (hasTtl && forbidsStale(general, hasTtl));
  const window = (option: number | undefined, name: string) => {
    if (isStrict) return 0;
    const seconds = effective.seconds(name);
    const directive = typeof seconds === 'number' ? seconds * SECOND : undefined;
    return (hasTtl ? (option ?? directive) : (directive ?? option)) ?? 0;
  };
  return {
    freshMs,
    staleWhileRevalidateMs: window(rules.staleWhileRevalidate, 'stale-while-revalidate'),
    staleIfErrorMs: window(rules.staleIfError, 'stale-if-error'),
    ageMs,
    isStrict,
    validatableMs,
  };
}

const NEVER_FRESH = { freshMs: 0, staleWhileRevalidateMs: 0, staleIfErrorMs: 0, isStrict: true };

function validatableTime(freshMs: number): number {
  return Math.min(Math.max(freshMs, MIN_VALIDATABLE_MS), MAX_VALIDATABLE_MS);
}

/** The lifetime left when a response is stored `ms` after its head; undefined for none. The app's `ttl` starts then. */
export function lifetimeAfter(lifetime: Lifetime, ms: number, hasTtl: boolean): Lifetime | undefined {
  const later = { ...lifetime, ageMs: lifetime.ageMs + ms };
  if (hasTtl || lifetime.freshMs === 0) return later;
  const freshMs = lifetime.freshMs - ms;
  return freshMs > 0 ? { ...later, freshMs } : undefined;
}

/** Whether directives forbid stale responses (RFC 9111, section 4.2.4). With the app's `ttl`, s-maxage does not. */
function forbidsStale(control: CacheControl, hasTtl: boolean): boolean {
  if (control.has('must-revalidate') || control.has('proxy-revalidate')) return true;
  return !hasTtl && control.has('s-maxage');
}

/** The lifetime that the headers set, or a heuristic one (RFC 9111, section 4.2.1); undefined for a malformed value. */
function explicitOrHeuristicLifetime(
  { status, headers, directives, respondedAt }: TimedResponse,
  heuristics: boolean,
): number | undefined {
  const { effective, isTargeted } = directives;
  for (const name of ['s-maxage', 'max-age']) {
    const seconds = effective.seconds(name);
    if (seconds === 'invalid') return undefined;
    if (seconds !== undefined) return seconds * SECOND;
  }
  const date = dateOf(headers, respondedAt);
  if (headers.expires !== undefined && !isTargeted) {
    const expires = parseHttpDate(String(headers.expires), respondedAt);
    // An invalid or repeated date means "already expired" (RFC 9111, section 5.3).
    return expires === undefined ? undefined : expires - date;
  }
  if (!heuristics || !(HEURISTICALLY_CACHEABLE.has(status) || effective.has('public'))) return undefined;
  const modified = parseHttpDate(String(headers['last-modified'] ?? ''), respondedAt);
  return modified === undefined ? undefined : Math.min(DAY_MS, Math.floor((date - modified) / 10));
}

/** The corrected initial age, in milliseconds (RFC 9111, section 4.2.3). */
function initialAge({ headers, requestedAt, respondedAt }: TimedResponse): number {
  const apparentMs = Math.max(0, respondedAt - dateOf(headers, respondedAt));
  const age = trimWhitespace(String(headers.age ?? '').split(',', 1)[0] ?? '');
  // Only an upstream cache sets Age. The time that the handler took is then a part of the age.
  if (!/^\d+$/.test(age)) return headers.date === undefined ? 0 : apparentMs;
  return Math.max(
    apparentMs,
    Math.min(Number(age), MAX_SECONDS) * SECOND + Math.max(0, respondedAt - requestedAt),
  );
}

function dateOf({ date }: OutgoingHttpHeaders, respondedAt: number): number {
  return (date === undefined ? undefined : parseHttpDate(String(date), respondedAt)) ?? respondedAt;
}
