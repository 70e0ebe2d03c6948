export const LIMIT = 20;
export const WINDOW_MS = 300;

export type HammeredLimiter = 'sliding-window' | 'token-bucket' | keyof typeof CONTROL_SCRIPTS;

export interface Order {
  readonly limiter: HammeredLimiter;
  readonly forMs: number;
}

/** The decisions that each connection of a worker got, in order: 1 for allowed, 0 for refused. */
export type Report = readonly { readonly lane: string; readonly allowed: string }[];

const CLOCK = /* lua */ `
local time = redis.call('TIME')
local now, limit, window = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[1]), tonumber(ARGV[2])
local this = math.floor(now / window)
`;

/** Inexact algorithms that other packages use. The test must detect their violations, or it proves nothing. */
export const CONTROL_SCRIPTS = {
  'fixed-window': /* lua */ `${CLOCK}
    local used = tonumber(redis.call('HGET', KEYS[1], this) or 0)
    if used >= limit then return 0 end
    redis.call('HINCRBY', KEYS[1], this, 1)
    redis.call('EXPIRE', KEYS[1], 60)
    return 1`,
  'two-counters': /* lua */ `${CLOCK}
    local used = tonumber(redis.call('HGET', KEYS[1], this) or 0)
    local before = tonumber(redis.call('HGET', KEYS[1], this - 1) or 0)
    if used + before * (1 - now % window / window) + 1 > limit then return 0 end
    redis.call('HINCRBY', KEYS[1], this, 1)
    redis.call('EXPIRE', KEYS[1], 60)
    return 1`,
} as const;
