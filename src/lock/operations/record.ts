import type { Keyspace } from '../../engine/operation.ts';
import type { StoredFormat } from '../../engine/reply.ts';
import {
  TURN_MS,
  TURN_TTL_MS,
  WAITING_LINE_LUA,
  type Waiter,
  type WaitingLine,
} from '../../waiting/queue.ts';

/*
 * How a held lock is stored: '1:<fence>:<deadline>:<token>:<process>:<metadata>'. The deadline, in ms of the server's
 * clock, is what ends the lease; the key's TTL only follows it. A fence of 0 is a turn: the lock is kept for who waited
 * first, until it asks or the turn is over. The process is where the holder hears that its lock was taken away; it may
 * be empty. The metadata is JSON, or empty.
 */

/**
 * Defines `load()`, which answers { found, fence, deadline, token, process, metadata } of KEYS[1], where a free lock has
 * deadline 0; and `store(lock, ttl)`.
 */
export const LOCK_RECORD_LUA: string = `
local function load()
  local raw = read('GET', KEYS[1])
  if not raw then return { found = 0, deadline = 0 } end
  if type(raw) ~= 'string' then return { found = 1, deadline = 0 } end
  local version = tonumber(string.match(raw, '^(%d+):') or '')
  if version and version > 1 then return { found = 2, deadline = 0 } end
  local fence, deadline, token, process, metadata = string.match(raw, '^1:(%d+):(%d+):([%w_-]+):([%w_-]*):(.*)$')
  if not fence then return { found = 1, deadline = 0 } end
  return {
    found = 0, fence = tonumber(fence), deadline = tonumber(deadline), token = token, process = process,
    metadata = metadata
  }
end

local function store(lock, ttl)
  redis.call('SET', KEYS[1], string.format('1:%.0f:%.0f:', lock.fence, lock.deadline) .. lock.token .. ':' ..
    lock.process .. ':' .. lock.metadata, 'PX', ttl)
end
`;

/**
 * The same with the line, and `hand_over(waiter)`, which gives the lock to who waits. KEYS[2] is the line; CHANNELS must
 * be defined before.
 */
export const LOCK_LUA: string = `${WAITING_LINE_LUA}${LOCK_RECORD_LUA}
local function hand_over(waiter)
  store({ fence = 0, deadline = now + ${TURN_MS}, token = waiter.token, process = waiter.process, metadata = '' },
    ${TURN_TTL_MS})
  line_call(KEYS[2], waiter)
end
`;

export interface LockRecord {
  readonly fence: number;
  readonly deadline: number;
  readonly token: string;
  readonly process: string;
  /** JSON, or empty. */
  readonly metadata: string;
}

const FREE: LockRecord = { fence: 0, deadline: 0, token: '', process: '', metadata: '' };

/** A lock that is free, or cannot be read, has the token ''. */
export function unpackLock(value: Buffer | undefined): LockRecord & { readonly found: StoredFormat } {
  if (value === undefined) return { found: 'fine', ...FREE };
  // One character a byte, since what the script's patterns see are bytes.
  const text = value.toString('latin1');
  const version = /^(\d+):/.exec(text)?.[1];
  if (version !== undefined && Number(version) > 1) return { found: 'newer', ...FREE };
  const parts = /^1:(\d+):(\d+):([\w-]+):([\w-]*):(.*)$/s.exec(text);
  if (parts === null) return { found: 'corrupt', ...FREE };
  const [token = '', process = '', metadata = ''] = parts.slice(3);
  return {
    found: 'fine',
    fence: Number(parts[1]),
    deadline: Number(parts[2]),
    token,
    process,
    metadata: Buffer.from(metadata, 'latin1').toString(),
  };
}

export function storeLock(memory: Keyspace, key: string, lock: LockRecord, ttlMs: number): void {
  const { fence, deadline, token, process, metadata } = lock;
  memory.set(key, Buffer.from(`1:${fence}:${deadline}:${token}:${process}:${metadata}`), ttlMs);
}

/** Keeps the lock for who waits, and calls it. */
export function handOver(
  memory: Keyspace,
  key: string,
  line: WaitingLine,
  now: number,
  waiter: Waiter,
): void {
  const { token, process } = waiter;
  storeLock(memory, key, { ...FREE, deadline: now + TURN_MS, token, process }, TURN_TTL_MS);
  line.call(waiter);
}
