import type { RateLimitOptions } from '../../src/index.ts';

export const LIMIT = 60;
export const WINDOW_MS = 400;
export const UNITS = 10;
export const HOLD_MS = 50;

export type AheadLimiter = 'reserve' | 'wait' | 'apart';

/** An allowed call: the moments before and after it, by the steady clock that all processes share. */
export type AheadCall = readonly [beforeMs: number, afterMs: number];

/** The allowed calls of one limiter. */
export interface AheadReport {
  readonly prefix: string;
  readonly calls: readonly AheadCall[];
}

export interface AheadOrder {
  readonly limiter: AheadLimiter;
  readonly algorithm: 'sliding-window' | 'token-bucket';
  readonly prefix: string;
}

/** The capacity of the bucket is that of a window after it is lowered by the refill during the hold. */
export function optionsOf({ limiter, algorithm }: AheadOrder): RateLimitOptions {
  const policy =
    algorithm === 'sliding-window'
      ? ({ algorithm, limit: LIMIT, window: WINDOW_MS } as const)
      : ({ algorithm, capacity: LIMIT, refill: { tokens: LIMIT, per: WINDOW_MS } } as const);
  // Each refusal must reach Redis, since a loop of remembered refusals would never let other work run.
  const ahead =
    limiter === 'wait' ? { wait: '250ms' as const } : { reserve: { units: UNITS, hold: HOLD_MS } };
  return { ...policy, ...ahead, name: 'ahead', denyCache: false };
}
