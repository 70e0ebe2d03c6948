import { LOCK_LUA, packLock, unpackLock } from './lock-record.ts';
import { defineOperation, type Operation } from './operation.ts';
import { arrayOf, type Found, foundAt, foundCode, integerAt, newerFormat } from './reply.ts';

export interface LockAcquireArgs {
  readonly token: string;
  readonly lease: number;
}

export interface LockAcquireReply {
  readonly granted: boolean;
  readonly fence: number;
  /** Of the lease: ours when granted, else the holder's. -1 when nobody can tell, since the value is corrupt. */
  readonly leftMs: number;
  readonly found: Found;
}

/** The counter outlives the lock by this much; should it go, the clock still gives a higher fence. */
const FENCE_TTL_MS = 86_400_000;

/*
 * Takes a free lock and gives it a fencing number that only ever grows: the last one plus one, or the server's
 * time in microseconds where that is higher, as it is after the counter was lost. A corrupt value is a held lock,
 * since taking it for a free one could let two in.
 *
 * KEYS   1 the lock, 2 its fence counter
 * ARGV   1 time, 2 token, 3 lease ms
 * reply  {found, granted 0 or 1, fence, left ms}
 */
const lua = `${LOCK_LUA}
local lock = load()
if lock.found ~= 0 then return { lock.found, 0, 0, -1 } end
if lock.deadline > now then return { 0, 0, lock.fence, lock.deadline - now } end
local counter = read('GET', KEYS[2])
local last = type(counter) == 'string' and tonumber(string.match(counter, '^1:(%d+)$') or '') or 0
local fence = math.max(last + 1, now_us)
redis.call('SET', KEYS[1], string.format('1:%.0f:%.0f:%s', fence, now + ARGV[3], ARGV[2]), 'PX', ARGV[3])
redis.call('SET', KEYS[2], string.format('1:%.0f', fence), 'PX', ARGV[3] + ${FENCE_TTL_MS})
return { 0, 1, fence, tonumber(ARGV[3]) }
`;

export const lockAcquire: Operation<LockAcquireArgs, LockAcquireReply> = defineOperation({
  name: 'lock-acquire',
  lua,
  encode: ({ token, lease }) => [token, String(lease)],
  twin(memory, [key = '', counterKey = ''], now, { token, lease }) {
    const lock = unpackLock(memory.get(key));
    if (lock.found !== 'fine') return [foundCode(lock.found), 0, 0, -1];
    if (lock.deadline > now) return [0, 0, lock.fence, lock.deadline - now];
    const last = Number(/^1:(\d+)$/.exec(memory.get(counterKey)?.toString('latin1') ?? '')?.[1] ?? 0);
    const fence = Math.max(last + 1, now * 1000);
    memory.set(key, packLock(fence, now + lease, token), lease);
    memory.set(counterKey, Buffer.from(`1:${fence}`, 'latin1'), lease + FENCE_TTL_MS);
    return [0, 1, fence, lease];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    const found = foundAt(fields, 0);
    if (found === 'newer') throw newerFormat('lock');
    return {
      found,
      granted: integerAt(fields, 1) === 1,
      fence: integerAt(fields, 2),
      leftMs: integerAt(fields, 3),
    };
  },
});
