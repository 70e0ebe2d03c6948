import type { Keyspace } from '../../engine/operation.ts';
import type { StoredFormat } from '../../engine/reply.ts';
import { storedInteger } from '../../engine/stored-integer.ts';
import { HANDOFF_MS, HANDOFF_TTL_MS, QUEUE_LUA, type Waiter, type WaiterQueue } from '../../waiting/queue.ts';

/*
 * A stored lock is '1:<fence>:<deadline>:<token>:<process>:<metadata>'. The lease ends at the deadline, in milliseconds
 * of the server's clock, not with the TTL of the key. Fence 0 is a handoff: the lock is kept for the waiter that was
 * woken, until that waiter asks or the deadline passes. The holder is notified on the channel of its process when its
 * lock is taken away; a process without a channel is empty here. The metadata is JSON, or empty.
 */

/**
 * Defines `load_lock()`, which returns { found, fence, deadline, token, process, metadata } of KEYS[1]; a free lock has
 * deadline 0 and no token. Defines `store_lock(lock, ttl)`.
 */
export const STORED_LOCK_LUA: string = /* lua */ `
local function load_lock()
  local raw = read('GET', KEYS[1])
  if not raw then return { found = 0, deadline = 0 } end
  if type(raw) ~= 'string' then return { found = 1, deadline = 0 } end
  local version = tonumber(string.match(raw, '^(%d+):') or '')
  if version and version > 1 then return { found = 2, deadline = 0 } end
  local fence, deadline, token, process, metadata = string.match(raw, '^1:(%d+):(%d+):([%w_-]+):([%w_-]*):(.*)$')
  fence, deadline = stored_integer(fence), stored_integer(deadline)
  if not fence or not deadline then return { found = 1, deadline = 0 } end
  return { found = 0, fence = fence, deadline = deadline, token = token, process = process, metadata = metadata }
end

local function store_lock(lock, ttl)
  redis.call('SET', KEYS[1], string.format('1:%.0f:%.0f:', lock.fence, lock.deadline) .. lock.token .. ':' ..
    lock.process .. ':' .. lock.metadata, 'PX', ttl)
end
`;

/**
 * Defines the functions of STORED_LOCK_LUA and QUEUE_LUA, and `hand_off(waiter)`, which keeps the lock for a waiter and
 * wakes it. KEYS[2] is the queue. A script must define `CHANNELS` before it includes this text.
 */
export const LOCK_LUA: string = /* lua */ `${QUEUE_LUA}${STORED_LOCK_LUA}
local function hand_off(waiter)
  store_lock({ fence = 0, deadline = now + ${HANDOFF_MS}, token = waiter.token, process = waiter.process, metadata = '' },
    ${HANDOFF_TTL_MS})
  queue_wake(KEYS[2], waiter)
end
`;

export interface StoredLock {
  readonly fence: number;
  readonly deadline: number;
  readonly token: string;
  readonly process: string;
  readonly metadata: string;
}

const FREE: StoredLock = { fence: 0, deadline: 0, token: '', process: '', metadata: '' };

/** Parses a stored lock. The token is empty if the lock is free, corrupt or in a newer format. */
export function unpackLock(value: Buffer | undefined): StoredLock & { readonly found: StoredFormat } {
  if (value === undefined) return { found: 'fine', ...FREE };
  // Latin-1 has one character per byte, as the patterns of the script match bytes.
  const text = value.toString('latin1');
  const version = /^(\d+):/.exec(text)?.[1];
  if (version !== undefined && Number(version) > 1) return { found: 'newer', ...FREE };
  const parts = /^1:(\d+):(\d+):([\w-]+):([\w-]*):(.*)$/s.exec(text);
  const [fence, deadline] = [storedInteger(parts?.[1]), storedInteger(parts?.[2])];
  if (parts === null || fence === undefined || deadline === undefined) return { found: 'corrupt', ...FREE };
  const [token = '', process = '', metadata = ''] = parts.slice(3);
  return {
    found: 'fine',
    fence,
    deadline,
    token,
    process,
    metadata: Buffer.from(metadata, 'latin1').toString(),
  };
}

export function storeLock(memory: Keyspace, key: string, lock: StoredLock, ttlMs: number): void {
  const { fence, deadline, token, process, metadata } = lock;
  memory.set(key, Buffer.from(`1:${fence}:${deadline}:${token}:${process}:${metadata}`), ttlMs);
}

export function handOff(key: string, queue: WaiterQueue, waiter: Waiter): void {
  const { token, process } = waiter;
  const handoff = { ...FREE, deadline: queue.now + HANDOFF_MS, token, process };
  storeLock(queue.memory, key, handoff, HANDOFF_TTL_MS);
  queue.wake(waiter);
}
