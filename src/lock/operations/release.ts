import { defineOperation, type Operation } from '../../engine/operation.ts';
import { memberOf, WaitingLine } from '../../waiting/queue.ts';
import { handOver, LOCK_LUA, unpackLock } from './record.ts';

export interface LockReleaseArgs {
  readonly token: string;
  /** As it was asked with, so that who gives up leaves the line. */
  readonly waitMs: number;
  readonly process: string;
  readonly channels: string;
  readonly isFair: boolean;
}

/*
 * Ends what a token has of a lock: its hold, its turn, its place in the line. The lock goes to the first who waits;
 * where that is not wanted it is free at once, and the first is only told of it. So who gives up while the lock is free
 * may be the one who was told, and the next is told in its place.
 *
 * KEYS   1 the lock, 2 the line
 * ARGV   1 time, 2 token, 3 wait ms, 4 process, 5 what channels begin with, 6 '1' for fair
 * reply  1 it was held until now, 0 it was not, or the lease had ended before
 */
const lua = `
local CHANNELS = ARGV[5]
${LOCK_LUA}
line_open(KEYS[2])
line_leave(KEYS[2], ARGV[2] .. ':' .. ARGV[4] .. ':' .. ARGV[3])
local lock = load()
local is_free = lock.found == 0 and not lock.token
if not is_free and lock.token ~= ARGV[2] then return 0 end
local first = line_first(KEYS[2])
if first and ARGV[6] == '1' then
  hand_over(first)
else
  redis.call('DEL', KEYS[1])
  if first then line_call(KEYS[2], first) end
end
return not is_free and lock.fence > 0 and lock.deadline > now and 1 or 0
`;

export const lockRelease: Operation<LockReleaseArgs, boolean> = defineOperation({
  name: 'lock-release',
  lua,
  encode: ({ token, waitMs, process, channels, isFair }) => [
    token,
    String(waitMs),
    process,
    channels,
    isFair ? '1' : '0',
  ],
  runInMemory(memory, [key = '', lineKey = ''], now, args) {
    const line = new WaitingLine(memory, lineKey, now, args.channels);
    line.leave(memberOf(args));
    const lock = unpackLock(memory.get(key));
    const isFree = lock.found === 'fine' && lock.token === '';
    if (!isFree && lock.token !== args.token) return 0;
    const first = line.first();
    if (first !== undefined && args.isFair) {
      handOver(memory, key, line, now, first);
    } else {
      memory.delete(key);
      if (first !== undefined) line.call(first);
    }
    return lock.fence > 0 && lock.deadline > now ? 1 : 0;
  },
  decode: (reply) => reply === 1,
});
