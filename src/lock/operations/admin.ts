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
import { WaitingLine } from '../../waiting/queue.ts';
import { handOver, LOCK_LUA, unpackLock } from './record.ts';

export interface LockState {
  readonly found: StoredFormat;
  /** 0 where nobody has the lock, or it is kept for who is called just now. */
  readonly fence: number;
  /** 0 when it is free. */
  readonly leftMs: number;
  readonly waiters: number;
  /** JSON, or empty. */
  readonly metadata: string;
}

/*
 * Tells how a lock stands.
 *
 * KEYS   1 the lock, 2 the line
 * ARGV   1 time
 * reply  {found, fence, left ms, how many wait, metadata}
 */
const inspectLua = `
local CHANNELS
${LOCK_LUA}
local lock = load()
line_open(KEYS[2])
local waiters, line = 0, redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for i = 1, #line, 2 do
  local waiter = line_parse(line[i])
  if waiter and math.floor(line[i + 1] / 1000) + waiter.wait > now then waiters = waiters + 1 end
end
if lock.deadline <= now then return { lock.found, 0, 0, waiters, '' } end
return { lock.found, lock.fence, lock.deadline - now, waiters, lock.metadata }
`;

export const lockInspect: Operation<object, LockState> = defineOperation({
  name: 'lock-inspect',
  lua: inspectLua,
  encode: () => [],
  runInMemory(memory, [key = '', lineKey = ''], now) {
    const { found, fence, deadline, metadata } = unpackLock(memory.get(key));
    const waiters = new WaitingLine(memory, lineKey, now, '').length;
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

/*
 * Takes a lock away from whoever has it, or from a value that nobody can read, and gives it to the first who waits. The
 * former holder is told on its channel, or by its next renewal.
 *
 * KEYS   1 the lock, 2 the line
 * ARGV   1 time, 2 what channels begin with
 * reply  {found, 1 somebody had it or 0}
 */
const forceLua = `
local CHANNELS = ARGV[2]
${LOCK_LUA}
local lock = load()
if lock.found == 2 then return { 2, 0 } end
line_open(KEYS[2])
if lock.token then line_tell('lost', lock) end
local first = line_first(KEYS[2])
if first then hand_over(first) else redis.call('DEL', KEYS[1]) end
return { lock.found, (lock.found == 1 or lock.deadline > now) and 1 or 0 }
`;

export const lockForceRelease: Operation<{ readonly channels: string }, boolean> = defineOperation({
  name: 'lock-force-release',
  lua: forceLua,
  encode: ({ channels }) => [channels],
  runInMemory(memory, [key = '', lineKey = ''], now, { channels }) {
    const lock = unpackLock(memory.get(key));
    if (lock.found === 'newer') return [storedFormatCode('newer'), 0];
    const line = new WaitingLine(memory, lineKey, now, channels);
    if (lock.token !== '') line.tell('lost', lock);
    const first = line.first();
    if (first === undefined) memory.delete(key);
    else handOver(memory, key, line, now, first);
    return [storedFormatCode(lock.found), lock.found === 'corrupt' || lock.deadline > now ? 1 : 0];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    if (storedFormatAt(fields, 0) === 'newer') throw newerFormat('lock');
    return integerAt(fields, 1) === 1;
  },
});
