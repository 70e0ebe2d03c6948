import { defineOperation, type Operation } from '../../engine/operation.ts';
import { arrayOf, integerAt, newerFormat, storedFormatAt, storedFormatCode } from '../../engine/reply.ts';
import { WaiterQueue } from '../../waiting/queue.ts';
import { handOff, LOCK_LUA, unpackLock } from './stored-lock.ts';

/*
 * Takes a lock away from its holder, or replaces a corrupt value, and hands the lock off to the first waiter. The
 * former holder is notified on the channel of its process, or otherwise finds the loss with its next renewal.
 *
 * KEYS   1 the lock, 2 the queue
 * ARGV   1 time, 2 prefix of the channels
 * reply  {found, 1 when the lock was held or corrupt, else 0}
 */
const lua = /* lua */ `
local CHANNELS = ARGV[2]
${LOCK_LUA}
local lock = load_lock()
if lock.found == 2 then return { 2, 0 } end
queue_open(KEYS[2])
if lock.token then queue_notify('lost', lock) end
local first = queue_shift(KEYS[2])
if first then hand_off(first) else redis.call('DEL', KEYS[1]) end
return { lock.found, (lock.found == 1 or lock.deadline > now) and 1 or 0 }
`;

export const lockForceRelease: Operation<{ readonly channels: string }, boolean> = defineOperation({
  name: 'lock-force-release',
  lua,
  encode: ({ channels }) => [channels],
  runInMemory(memory, [key = '', queueKey = ''], now, { channels }) {
    const lock = unpackLock(memory.get(key));
    if (lock.found === 'newer') return [storedFormatCode('newer'), 0];
    const queue = new WaiterQueue(memory, queueKey, now, channels);
    if (lock.token !== '') queue.notify('lost', lock);
    const first = queue.shift();
    if (first === undefined) memory.delete(key);
    else handOff(key, queue, first);
    return [storedFormatCode(lock.found), lock.found === 'corrupt' || lock.deadline > now ? 1 : 0];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    if (storedFormatAt(fields, 0) === 'newer') throw newerFormat('lock');
    return integerAt(fields, 1) === 1;
  },
});
