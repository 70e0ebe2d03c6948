import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  integerAt,
  newerFormat,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import { storedInteger } from '../../engine/stored-integer.ts';
import { HANDOFF_MS, memberOf, WaiterQueue } from '../../waiting/queue.ts';
import type { LockReleaseArgs } from './release.ts';
import { handOff, LOCK_LUA, storeLock, unpackLock } from './stored-lock.ts';

export interface LockAcquireArgs extends LockReleaseArgs {
  readonly lease: number;
  /** Information about the holder that `inspect` shows, as JSON; empty for none. */
  readonly metadata: string;
}

export interface LockAcquireReply {
  readonly granted: boolean;
  readonly fence: number;
  /** Milliseconds until the lease of the caller, if granted, or of the holder ends. -1 for a corrupt stored value. */
  readonly leftMs: number;
  readonly found: StoredFormat;
}

/** How long the fencing counter outlives the lease. Without the counter, the server's clock yields a higher token. */
const FENCE_TTL_MS = 3_600_000;

/*
 * Grants a lock that is free or kept for this token, with the next fencing token: the last token plus one, or the
 * server's time in microseconds if that is higher, as after a loss of the counter. If waiters go first, a free lock
 * goes to the first waiter. A caller that is not granted the lock joins the queue if it waits, and asking again keeps
 * its place. The same command asks first, asks again and accepts a handoff, and may be repeated if its reply was lost.
 * A corrupt value is treated as a held lock, since it might be one.
 *
 * KEYS   1 the lock, 2 the queue, 3 the fencing counter
 * ARGV   1 time, 2 token, 3 lease ms, 4 wait ms, 5 process, 6 prefix of the channels, 7 '1' when waiters go first,
 *        8 metadata
 * reply  {found, granted (0 or 1), fencing token, ms left}
 */
const lua = /* lua */ `
local CHANNELS = ARGV[6]
${LOCK_LUA}
local token, member = ARGV[2], ARGV[2] .. ':' .. ARGV[5] .. ':' .. ARGV[4]
local lock = load_lock()
if lock.found ~= 0 then return { lock.found, 0, 0, -1 } end
local has_queue = queue_open(KEYS[2]) > 0

local function refuse(left)
  if tonumber(ARGV[4]) > 0 then queue_join(KEYS[2], member) end
  return { 0, 0, 0, left }
end

if lock.token ~= token then
  if lock.deadline > now then return refuse(lock.deadline - now) end
  if lock.fence == 0 and lock.process ~= ARGV[5] then queue_drop(KEYS[2], lock.process) end
  if has_queue and ARGV[7] == '1' then
    local first = queue_shift(KEYS[2])
    if first and first.token ~= token then
      hand_off(first)
      return refuse(${HANDOFF_MS})
    end
  end
end
if has_queue then queue_leave(KEYS[2], member) end

local fence, counter_ms = now_us, ARGV[3] + ${FENCE_TTL_MS}
local counter = read('SET', KEYS[3], string.format('1:%.0f', fence), 'PX', counter_ms, 'GET')
local last = type(counter) == 'string' and stored_integer(string.match(counter, '^1:(%d+)$')) or 0
-- A counter of another type is not overwritten by SET with GET.
if last >= fence or type(counter) == 'table' then
  fence = math.max(last + 1, now_us)
  redis.call('SET', KEYS[3], string.format('1:%.0f', fence), 'PX', counter_ms)
end
store_lock({ fence = fence, deadline = now + ARGV[3], token = token, process = ARGV[5], metadata = ARGV[8] }, ARGV[3])
return { 0, 1, fence, tonumber(ARGV[3]) }
`;

export const lockAcquire: Operation<LockAcquireArgs, LockAcquireReply> = defineOperation({
  name: 'lock-acquire',
  lua,
  encode({ token, lease, waitMs, process, channels, isFair, metadata }) {
    return [token, String(lease), String(waitMs), process, channels, isFair ? '1' : '0', metadata];
  },
  runInMemory(memory, [key = '', queueKey = '', counterKey = ''], now, args) {
    const { token, lease, waitMs, process, metadata } = args;
    const lock = unpackLock(memory.get(key));
    if (lock.found !== 'fine') return [storedFormatCode(lock.found), 0, 0, -1];
    const queue = new WaiterQueue(memory, queueKey, now, args.channels);
    const member = memberOf(args);
    const refuse = (left: number) => {
      if (waitMs > 0) queue.join(member);
      return [0, 0, 0, left];
    };
    if (lock.token !== token) {
      if (lock.deadline > now) return refuse(lock.deadline - now);
      if (lock.token !== '' && lock.fence === 0 && lock.process !== process) queue.drop(lock.process);
      const first = args.isFair ? queue.shift() : undefined;
      if (first !== undefined && first.token !== token) {
        handOff(key, queue, first);
        return refuse(HANDOFF_MS);
      }
    }
    queue.leave(member);
    const last = storedInteger(/^1:(\d+)$/.exec(memory.get(counterKey)?.toString('latin1') ?? '')?.[1]) ?? 0;
    const fence = Math.max(last + 1, now * 1000);
    storeLock(memory, key, { fence, deadline: now + lease, token, process, metadata }, lease);
    memory.set(counterKey, Buffer.from(`1:${fence}`, 'latin1'), lease + FENCE_TTL_MS);
    return [0, 1, fence, lease];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    const found = storedFormatAt(fields, 0);
    if (found === 'newer') throw newerFormat('lock');
    return {
      found,
      granted: integerAt(fields, 1) === 1,
      fence: integerAt(fields, 2),
      leftMs: integerAt(fields, 3),
    };
  },
});
