import { packFrame, unpackFrame } from '../../base/framing.ts';
import type { BoundedPolicy } from './options.ts';
import { isInvalidated, isSoftlyInvalidated, type NameVersion } from './versions.ts';

/** How long an entry may be used, in milliseconds: while fresh, then in its stale windows, then once validated. */
export interface Lifetime {
  /** How long the entry stays fresh once stored; 0 for a response that must be validated before each use. */
  readonly freshMs: number;
  readonly staleWhileRevalidateMs: number;
  readonly staleIfErrorMs: number;
  /** The age of a response at the time it is stored (RFC 9111, section 4.2.3); 0 for a value. */
  readonly ageMs: number;
  /** Whether the entry, once stale or softly purged, must be validated before use, as `must-revalidate` demands. */
  readonly isStrict: boolean;
  /** How long the entry is kept for validation after its freshness and its windows have ended; 0 for not at all. */
  readonly validatableMs: number;
}

/** The parts of an entry that are packed for Redis. `info` is the data besides the body, such as a response's head. */
export interface Envelope {
  readonly names: readonly string[];
  readonly lifetime: Lifetime;
  readonly info: unknown;
  readonly body: Buffer;
}

/** A stored response or cached value, as this process read or filled it. Its times are on the clock of local copies. */
export interface Entry<Content> {
  readonly content: Content;
  /** The invalidation names of the entry. */
  readonly names: readonly string[];
  readonly sequence: number;
  readonly versions: readonly NameVersion[];
  readonly lifetime: Lifetime;
  /** The approximate size of the entry in the memory of this process. */
  readonly bytes: number;
  /** When the entry and its versions were known to be current. */
  readonly readAt: number;
  readonly storedAt: number;
  readonly freshUntil: number;
}

export interface NewEntry<Content> {
  readonly content: Content;
  readonly info: unknown;
  readonly body: Buffer;
  readonly lifetime: Lifetime;
  /** The invalidation names that the entry has besides those of its key. */
  readonly names: readonly string[];
  readonly variesOn: string;
  readonly maxVariants: number;
  readonly policy: BoundedPolicy | undefined;
  /** Set when the handler has validated a stored entry, whose content is stored again. */
  readonly validation?: Validation<Content> | undefined;
}

/** An entry that is not stored, for followers only. */
export function unstoredEntry<Content>(content: Content, now: number): Entry<Content> {
  const windows = { staleWhileRevalidateMs: 0, staleIfErrorMs: 0, validatableMs: 0 };
  const lifetime = { freshMs: 0, ...windows, ageMs: 0, isStrict: false };
  const times = { readAt: now, storedAt: now, freshUntil: now };
  return { content, names: [], lifetime, sequence: 0, versions: [], bytes: 0, ...times };
}

/** A stored entry that a handler is asked to validate. */
export interface Validation<Content> {
  readonly entry: Entry<Content>;
  /**
   * The sequence under which the entry is stored again once validated: the sequence of the entry, raised to the last
   * soft purge that was known before the handler ran. Every other purge since the fill applies to the entry, even a
   * missed one.
   */
  readonly sequence: number;
}

/** The validation of an entry; undefined for an entry that is invalidated. */
export function validationOf<Content>(entry: Entry<Content>): Validation<Content> | undefined {
  const { sequence, versions } = entry;
  if (isInvalidated(sequence, versions)) return undefined;
  return { entry, sequence: Math.max(sequence, ...versions.map(({ soft }) => soft)) };
}

/**
 * How an entry may be used. `fresh`: as it is. `stale`: while it is refreshed. `fallback`: if its refresh fails.
 * `validatable`: once the handler has validated it. `invalid`: not at all.
 */
export type Usability = 'fresh' | 'stale' | 'fallback' | 'validatable' | 'invalid';

export function usabilityOf(entry: Entry<unknown>, now: number): Usability {
  if (isInvalidated(entry.sequence, entry.versions)) return 'invalid';
  const leftMs = entry.freshUntil - now;
  const isPurged = isSoftlyInvalidated(entry.sequence, entry.versions);
  if (leftMs > 0 && !isPurged) return 'fresh';
  const { lifetime } = entry;
  const { isStrict, staleWhileRevalidateMs, staleIfErrorMs } = lifetime;
  if (!isStrict && (leftMs > 0 || -leftMs < staleWhileRevalidateMs)) return 'stale';
  if (!isStrict && -leftMs < staleIfErrorMs) return 'fallback';
  const isKept = lifetime.validatableMs > 0 && -leftMs < keepMs(lifetime) - lifetime.freshMs;
  return isKept ? 'validatable' : 'invalid';
}

/** How long Redis keeps an entry. */
export function keepMs(lifetime: Lifetime): number {
  const { freshMs, staleWhileRevalidateMs, staleIfErrorMs, validatableMs } = lifetime;
  return freshMs + Math.max(staleWhileRevalidateMs, staleIfErrorMs) + validatableMs;
}

export function packEnvelope({ names, lifetime, info, body }: Envelope): Buffer {
  const { freshMs, staleWhileRevalidateMs, staleIfErrorMs, ageMs, isStrict, validatableMs } = lifetime;
  const windows = [staleWhileRevalidateMs, staleIfErrorMs];
  const validatable = validatableMs > 0 ? [validatableMs, freshMs > 0 ? 0 : 1] : [];
  const meta = [names, ...windows, ageMs, isStrict ? 1 : 0, info, body.length, ...validatable];
  return packFrame(meta, body);
}

/** `leftMs`: how long the entry stays fresh; `storedMs`: its time in Redis so far. Returns undefined if unreadable. */
export function unpackEnvelope(packed: Buffer, leftMs: number, storedMs: number): Envelope | undefined {
  const { meta, body } = unpackFrame(packed) ?? {};
  if (body === undefined || !Array.isArray(meta)) return undefined;
  const [names, staleWhileRevalidateMs, staleIfErrorMs, ageMs, strict, info, bodyLength, ...rest]: unknown[] =
    meta;
  const [validatableMs = 0, isNeverFresh = 0] = rest;
  if (!areTexts(names) || body.length !== bodyLength || (strict !== 0 && strict !== 1)) return undefined;
  if (!isSpan(staleWhileRevalidateMs) || !isSpan(staleIfErrorMs) || !isSpan(ageMs)) return undefined;
  if (!isSpan(validatableMs)) return undefined;
  const windows = { staleWhileRevalidateMs, staleIfErrorMs, validatableMs };
  // An entry that was never fresh is marked: after the server's clock has gone back, `leftMs` can be positive.
  const freshMs = isNeverFresh === 0 ? storedMs + leftMs : 0;
  const lifetime = { freshMs, ...windows, ageMs, isStrict: strict === 1 };
  return { names, lifetime, info, body };
}

export function isText(value: unknown): value is string {
  return typeof value === 'string';
}

function areTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(isText);
}

function isSpan(value: unknown): value is number {
  return typeof value === 'number' && value >= 0;
}
