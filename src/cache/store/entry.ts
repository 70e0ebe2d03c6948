import { packFrame, unpackFrame } from '../../base/framing.ts';
import { isSoftlyPurged, isVoid, type NameVersion } from './versions.ts';

/** How long what was made may be used, in milliseconds from the moment that it is stored. */
export interface Lifetime {
  /** 0 for a response that has to be validated before each use. */
  readonly freshMs: number;
  readonly staleWhileRevalidateMs: number;
  readonly staleIfErrorMs: number;
  /** How old it was by then (RFC 9111, section 4.2.3). */
  readonly ageMs: number;
  /** Never used without a validation once it is stale, whatever the windows and soft purges (must-revalidate and its like). */
  readonly isStrict: boolean;
  /** For how long it is kept after that, and after its windows, so that it can be validated; 0 for never. */
  readonly validatableMs: number;
}

/** What is packed beside the body: by what it is purged, how it may be used, and what its kind adds. */
export interface Envelope {
  readonly names: readonly string[];
  readonly lifetime: Lifetime;
  readonly info: unknown;
  readonly body: Buffer;
}

/** Something stored, as this process read or made it; times are of the clock that local copies live by. */
export interface Entry<Content> {
  readonly content: Content;
  /** By what it is purged. */
  readonly names: readonly string[];
  readonly sequence: number;
  readonly versions: readonly NameVersion[];
  readonly lifetime: Lifetime;
  /** How many bytes it takes here, about. */
  readonly bytes: number;
  /** Not after the store was asked for it, and for the oldest of its versions. */
  readonly readAt: number;
  readonly storedAt: number;
  readonly freshUntil: number;
}

/** The stored entry that a handler is asked to validate. */
export interface Validation<Content> {
  readonly entry: Entry<Content>;
  /**
   * The sequence under which it is stored again once it is validated. It is that of the entry, or of the soft purges that were
   * known before the handler ran: every other purge since the entry was made invalidates it, also one that was not heard.
   */
  readonly sequence: number;
}

/** Undefined for an entry that was purged. */
export function validationOf<Content>(entry: Entry<Content>): Validation<Content> | undefined {
  const { sequence, versions } = entry;
  if (isVoid(sequence, versions)) return undefined;
  return { entry, sequence: Math.max(sequence, ...versions.map(({ soft }) => soft)) };
}

/**
 * `fresh`: may be used. `stale`: may be used while it is refreshed. `fallback`: may be used when the refresh fails.
 * `validatable`: may be used once the handler has validated it. `void`: is not used.
 */
export type Usability = 'fresh' | 'stale' | 'fallback' | 'validatable' | 'void';

export function usabilityOf(entry: Entry<unknown>, now: number): Usability {
  if (isVoid(entry.sequence, entry.versions)) return 'void';
  const leftMs = entry.freshUntil - now;
  const isPurged = isSoftlyPurged(entry.sequence, entry.versions);
  if (leftMs > 0 && !isPurged) return 'fresh';
  const { lifetime } = entry;
  const { isStrict, staleWhileRevalidateMs, staleIfErrorMs } = lifetime;
  if (!isStrict && (leftMs > 0 || -leftMs < staleWhileRevalidateMs)) return 'stale';
  if (!isStrict && -leftMs < staleIfErrorMs) return 'fallback';
  return lifetime.validatableMs > 0 && -leftMs < keepMs(lifetime) - lifetime.freshMs ? 'validatable' : 'void';
}

/** How long the store keeps it. */
export function keepMs(lifetime: Lifetime): number {
  const { freshMs, staleWhileRevalidateMs, staleIfErrorMs, validatableMs } = lifetime;
  return freshMs + Math.max(staleWhileRevalidateMs, staleIfErrorMs) + validatableMs;
}

export function packEnvelope({ names, lifetime, info, body }: Envelope): Buffer {
  const { freshMs, staleWhileRevalidateMs, staleIfErrorMs, ageMs, isStrict, validatableMs } = lifetime;
  return packFrame(
    [
      names,
      staleWhileRevalidateMs,
      staleIfErrorMs,
      ageMs,
      isStrict ? 1 : 0,
      info,
      body.length,
      ...(validatableMs > 0 ? [validatableMs, freshMs > 0 ? 0 : 1] : []),
    ],
    body,
  );
}

/** Undefined when the bytes are no envelope. `leftMs`: how long it stays fresh, `ageMs`: since when it is stored. */
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
  // The time left says nothing where the clock of the store has gone back.
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
