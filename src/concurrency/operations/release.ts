import { defineOperation, type Operation } from '../../engine/operation.ts';
import { memberOf, type QueueArgs, WaiterQueue } from '../../waiting/queue.ts';
import { SLOTS_LUA, StoredSlots } from './stored-slots.ts';

export interface ConcurrencyReleaseArgs extends QueueArgs {
  /** The concurrency limit that the caller gave. */
  readonly limit: number;
}

/*
 * Ends the slot, the handoff and the place in the queue of a token, and hands free slots off to waiters.
 *
 * KEYS   1 the slots, 2 the queue
 * ARGV   1 time, 2 token, 3 wait ms, 4 process, 5 prefix of the channels, 6 limit
 * reply  1 when the token had a slot, else 0
 */
const lua = /* lua */ `
local CHANNELS = ARGV[5]
${SLOTS_LUA}
slots_open(ARGV[4])
local had = slots_end(ARGV[2], ARGV[4])
if has_queue then queue_leave(QUEUE, ARGV[2] .. ':' .. ARGV[4] .. ':' .. ARGV[3] .. ':' .. ARGV[6]) end
slots_fill()
return had and 1 or 0
`;

export const concurrencyRelease: Operation<ConcurrencyReleaseArgs, boolean> = defineOperation({
  name: 'concurrency-release',
  lua,
  encode({ token, waitMs, process, channels, limit }) {
    return [token, String(waitMs), process, channels, String(limit)];
  },
  runInMemory(memory, [key = '', queueKey = ''], now, args) {
    const queue = new WaiterQueue(memory, queueKey, now, args.channels);
    const slots = new StoredSlots(key, queue).open(args.process);
    queue.leave(memberOf(args));
    const had = slots.end(args.token, args.process);
    slots.fill();
    return had ? 1 : 0;
  },
  decode: (reply) => reply === 1,
});
