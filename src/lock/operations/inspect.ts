import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  bytesAt,
  integerAt,
  newerFormat,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import { WaiterQueue } from '../../waiting/queue.ts';
import { LOCK_LUA, unpackLock } from './stored-lock.ts';

export interface LockInspectReply {
  readonly found: StoredFormat;
  /** The fencing token of the holder; 0 when the lock is free or in a handoff. */
  readonly fence: number;
  /** Milliseconds until the lease or the handoff ends; 0 when the lock is free. */
  readonly leftMs: number;
  readonly waiters: number;
  /** The holder's metadata as JSON; empty for none. */
  readonly metadata: string;
}

/*
 * Reads the state of a lock.
 *
 * KEYS   1 the lock, 2 the queue
 * ARGV   1 time
 * reply  {found, fencing token, ms left, number of waiters, metadata}
 */
const lua = /* lua */ `
local CHANNELS
${LOCK_LUA}
local lock = load_lock()
queue_open(KEYS[2])
local waiters, queue = 0, redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for i = 1, #queue, 2 do
  local waiter = queue_parse(queue[i])
  if waiter and queue_lasts(waiter, queue[i + 1], 0) then waiters = waiters + 1 end
end
if lock.deadline <= now then return { lock.found, 0, 0, waiters, '' } end
return { lock.found, lock.fence, lock.deadline - now, waiters, lock.metadata }
`;

export const lockInspect: Operation<object, LockInspectReply> = defineOperation({
  name: 'lock-inspect',
  lua,
  encode: () => [],
  runInMemory(memory, [key = '', queueKey = ''], now) {
    const { found, fence, deadline, metadata } = unpackLock(memory.get(key));
    const waiters = new WaiterQueue(memory, queueKey, now, '').waiting;
    if (deadline <= now) return [storedFormatCode(found), 0, 0, waiters, Buffer.from('')];
    return [storedFormatCode(found), fence, deadline - now, waiters, Buffer.from(metadata)];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    const found = storedFormatAt(fields, 0);
    if (found === 'newer') throw newerFormat('lock');
    return {
      found,
      fence: integerAt(fields, 1),
      leftMs: integerAt(fields, 2),
      waiters: integerAt(fields, 3),
      metadata: bytesAt(fields, 4)?.toString() ?? '',
    };
  },
});
