export const LIMIT = 20;
export const WINDOW_MS = 300;

export type Hammered = 'sliding-window' | 'token-bucket' | keyof typeof CONTROL_SCRIPTS;

export interface Order {
  readonly what: Hammered;
  readonly forMs: number;
}

/** What each connection of a worker was answered, in the order of its tries: 1 for granted, 0 for refused. */
export type Report = readonly { readonly lane: string; readonly granted: string }[];

const CLOCK = `
local time = redis.call('TIME')
local now, limit, window = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[1]), tonumber(ARGV[2])
local this = math.floor(now / window)
`;

/** What others use, and what must not pass for exact: the check that finds no fault here finds none anywhere. */
export const CONTROL_SCRIPTS = {
  'fixed-window': `${CLOCK}
    local used = tonumber(redis.call('HGET', KEYS[1], this) or 0)
    if used >= limit then return 0 end
    redis.call('HINCRBY', KEYS[1], this, 1)
    redis.call('EXPIRE', KEYS[1], 60)
    return 1`,
  'two-counters': `${CLOCK}
    local used = tonumber(redis.call('HGET', KEYS[1], this) or 0)
    local before = tonumber(redis.call('HGET', KEYS[1], this - 1) or 0)
    if used + before * (1 - now % window / window) + 1 > limit then return 0 end
    redis.call('HINCRBY', KEYS[1], this, 1)
    redis.call('EXPIRE', KEYS[1], 60)
    return 1`,
} as const;
