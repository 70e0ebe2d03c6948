import { describe } from './describe.ts';
import { ConfigError } from './errors.ts';

/** A whole number of milliseconds, or a number with a unit: `'250ms'`, `'30s'`, `'5m'`, `'1.5h'`, `'7d'`. */
export type Duration = number | `${number}ms` | `${number}s` | `${number}m` | `${number}h` | `${number}d`;

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** The longest duration, 100 years: Redis adds a TTL to the time of day, and the sum must not overflow. */
export const MAX_DURATION_MS: number = 36_525 * UNIT_MS.d;

/** Converts a Duration to milliseconds. Returns undefined unless that is a whole number from 1 to `MAX_DURATION_MS`. */
export function durationMs(value: unknown): number | undefined {
  const ms = typeof value === 'string' ? parse(value) : value;
  return typeof ms === 'number' && Number.isInteger(ms) && ms > 0 && ms <= MAX_DURATION_MS ? ms : undefined;
}

/** As `durationMs`, for an argument of a method. `what` names the method. Throws a ConfigError for no Duration. */
export function checkedDuration(what: string, value: unknown): number {
  const ms = durationMs(value);
  if (ms !== undefined) return ms;
  throw new ConfigError(`${what}: ${describe(value)} is no duration; give one like '30s'`);
}

function parse(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text);
  if (match === null) return undefined;
  // '0.27m' is 16200.000000000002 ms in floating point, so a product this close to a whole number is rounded.
  const ms = Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS];
  return Math.abs(ms - Math.round(ms)) < 1e-6 ? Math.round(ms) : undefined;
}

/** Formats a duration in the largest unit that divides it, for names and messages: `1m` for 60000. */
export function formatDuration(ms: number): string {
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    if (ms % UNIT_MS[unit] === 0) return `${ms / UNIT_MS[unit]}${unit}`;
  }
  return `${ms}ms`;
}
