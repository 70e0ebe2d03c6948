import { defineOperation, type Operation } from '../../engine/operation.ts';
import { memberOf, type QueueArgs, WaiterQueue } from '../../waiting/queue.ts';
import { handOff, LOCK_LUA, unpackLock } from './stored-lock.ts';

export interface LockReleaseArgs extends QueueArgs {
  /** Whether waiters go first: a released lock is handed off to the first waiter before a new caller can acquire it. */
  readonly isFair: boolean;
}

/*
 * Ends the lease, the handoff and the place in the queue of a token. The lock is handed off to the first waiter. If
 * waiters do not go first, the lock is free at once and the first waiter is only woken. A caller that gives up while
 * the lock is free may be the waiter that was woken, so the next waiter is woken in its place.
 *
 * KEYS   1 the lock, 2 the queue
 * ARGV   1 time, 2 token, 3 wait ms, 4 process, 5 prefix of the channels, 6 '1' when waiters go first
 * reply  1 when the token held the lock, 0 when it did not or its lease had ended
 */
const lua = /* lua */ `
local CHANNELS = ARGV[5]
${LOCK_LUA}
local has_queue = queue_open(KEYS[2]) > 0
if has_queue then queue_leave(KEYS[2], ARGV[2] .. ':' .. ARGV[4] .. ':' .. ARGV[3]) end
local lock = load_lock()
local is_free = lock.found == 0 and not lock.token
if not is_free and lock.token ~= ARGV[2] then return 0 end
local first = has_queue and queue_shift(KEYS[2])
if first and ARGV[6] == '1' then
  hand_off(first)
else
  redis.call('DEL', KEYS[1])
  if first then queue_wake(KEYS[2], first) end
end
return not is_free and lock.fence > 0 and lock.deadline > now and 1 or 0
`;

export const lockRelease: Operation<LockReleaseArgs, boolean> = defineOperation({
  name: 'lock-release',
  lua,
  encode({ token, waitMs, process, channels, isFair }) {
    return [token, String(waitMs), process, channels, isFair ? '1' : '0'];
  },
  runInMemory(memory, [key = '', queueKey = ''], now, args) {
    const queue = new WaiterQueue(memory, queueKey, now, args.channels);
    queue.leave(memberOf(args));
    const lock = unpackLock(memory.get(key));
    const isFree = lock.found === 'fine' && lock.token === '';
    if (!isFree && lock.token !== args.token) return 0;
    const first = queue.shift();
    if (first !== undefined && args.isFair) {
      handOff(key, queue, first);
    } else {
      memory.delete(key);
      if (first !== undefined) queue.wake(first);
    }
    return lock.fence > 0 && lock.deadline > now ? 1 : 0;
  },
  decode: (reply) => reply === 1,
});
