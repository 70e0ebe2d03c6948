import type { OutgoingHttpHeaders } from 'node:http';
import { type CacheControl, MAX_SECONDS } from '../../http/message/cache-control.ts';
import { parseHttpDate } from '../../http/message/http-date.ts';
import type { Lifetime } from '../store/entry.ts';
import { type Directives, needsValidation } from './storable.ts';

const SECOND = 1_000;
const DAY_MS = 86_400_000;

/** Bounds of how long a response is kept to be validated: as long again as it was fresh, since that costs memory. */
const MIN_VALIDATABLE_MS = 60_000;
const MAX_VALIDATABLE_MS = 3_600_000;

/** The statuses that may be given a lifetime that nobody named (RFC 9110, section 15.1). */
const HEURISTICALLY_CACHEABLE = new Set([200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501]);

/** What the app says of lifetimes, in milliseconds. */
export interface FreshnessRules {
  readonly ttl: number | undefined;
  readonly staleWhileRevalidate: number | undefined;
  readonly staleIfError: number | undefined;
  readonly jitter: number;
  readonly heuristics: boolean;
}

export interface Received {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  readonly directives: Directives;
  /** Whether the handler can be asked to validate it. */
  readonly hasValidator: boolean;
  /** When the handler was asked and when it answered, in ms since the epoch. */
  readonly requestedAt: number;
  readonly respondedAt: number;
}

/** How long a response may be used; undefined when it has no lifetime left, or none was named. */
export function lifetimeOf(
  received: Received,
  rules: FreshnessRules,
  random: () => number,
): Lifetime | undefined {
  const { effective, general } = received.directives;
  const ageMs = initialAge(received);
  const namedMs = rules.ttl ?? namedLifetime(received, rules.heuristics);
  const validatableMs = received.hasValidator ? validatableTime(namedMs ?? 0) : 0;
  if (needsValidation(received.directives, rules.ttl !== undefined))
    return { ...NEVER_FRESH, ageMs, validatableMs };
  if (namedMs === undefined) return undefined;
  // What the app itself names begins now; what the response names began when it was made.
  const leftMs = rules.ttl === undefined ? namedMs - ageMs : namedMs;
  const freshMs = Math.round(leftMs * (1 - rules.jitter * random()));
  if (leftMs <= 0 || freshMs <= 0) return undefined;
  const isOurTtl = rules.ttl !== undefined;
  const isStrict = forbidsStale(effective, isOurTtl) || (isOurTtl && forbidsStale(general, isOurTtl));
  const window = (ours: number | undefined, name: string) => {
    if (isStrict) return 0;
    const seconds = effective.seconds(name);
    const theirs = typeof seconds === 'number' ? seconds * SECOND : undefined;
    return (isOurTtl ? (ours ?? theirs) : (theirs ?? ours)) ?? 0;
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

/**
 * The lifetime so many milliseconds after the response was made; undefined when it has ended. A ttl of the app's own begins
 * when the response is stored.
 */
export function lifetimeLater(lifetime: Lifetime, ms: number, isOurTtl: boolean): Lifetime | undefined {
  const later = { ...lifetime, ageMs: lifetime.ageMs + ms };
  if (isOurTtl || lifetime.freshMs === 0) return later;
  const freshMs = lifetime.freshMs - ms;
  return freshMs > 0 ? { ...later, freshMs } : undefined;
}

/** RFC 9111, section 4.2.4. With a lifetime of the app's own s-maxage is not what applies. */
function forbidsStale(control: CacheControl, isOurTtl: boolean): boolean {
  if (control.has('must-revalidate') || control.has('proxy-revalidate')) return true;
  return !isOurTtl && control.has('s-maxage');
}

/** RFC 9111, section 4.2.1. What cannot be read is stale: no lifetime. */
function namedLifetime(
  { status, headers, directives, respondedAt }: Received,
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
    // Several, or none of the forms of a date: "already expired" (RFC 9111, section 5.3).
    return expires === undefined ? undefined : expires - date;
  }
  if (!heuristics || !(HEURISTICALLY_CACHEABLE.has(status) || effective.has('public'))) return undefined;
  const modified = parseHttpDate(String(headers['last-modified'] ?? ''), respondedAt);
  return modified === undefined ? undefined : Math.min(DAY_MS, Math.floor((date - modified) / 10));
}

/** The corrected initial age, and the time until it is stored (RFC 9111, section 4.2.3). */
function initialAge({ headers, requestedAt, respondedAt }: Received): number {
  const apparentMs = Math.max(0, respondedAt - dateOf(headers, respondedAt));
  const age = headers.age === undefined ? undefined : String(headers.age).split(',', 1)[0]?.trim();
  // Only a cache upstream says an age; what the handler itself took is then part of it.
  if (age === undefined || !/^\d+$/.test(age)) return headers.date === undefined ? 0 : apparentMs;
  return Math.max(
    apparentMs,
    Math.min(Number(age), MAX_SECONDS) * SECOND + Math.max(0, respondedAt - requestedAt),
  );
}

function dateOf({ date }: OutgoingHttpHeaders, respondedAt: number): number {
  return (date === undefined ? undefined : parseHttpDate(String(date), respondedAt)) ?? respondedAt;
}
