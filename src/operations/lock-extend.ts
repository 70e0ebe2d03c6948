import { LOCK_LUA, packLock, unpackLock } from './lock-record.ts';
import { defineOperation, type Operation } from './operation.ts';

export interface LockExtendArgs {
  readonly token: string;
  readonly lease: number;
}

/*
 * Gives the holder a full lease from now. A lease that has ended is not revived, though nobody may have taken the
 * lock yet: its holder was told to stop.
 *
 * KEYS   1 the lock
 * ARGV   1 time, 2 token, 3 lease ms
 * reply  1 extended, 0 no longer ours
 */
const lua = `${LOCK_LUA}
local lock = load()
if lock.token ~= ARGV[2] or lock.deadline <= now then return 0 end
redis.call('SET', KEYS[1], string.format('1:%.0f:%.0f:%s', lock.fence, now + ARGV[3], ARGV[2]), 'PX', ARGV[3])
return 1
`;

export const lockExtend: Operation<LockExtendArgs, boolean> = defineOperation({
  name: 'lock-extend',
  lua,
  encode: ({ token, lease }) => [token, String(lease)],
  twin(memory, [key = ''], now, { token, lease }) {
    const lock = unpackLock(memory.get(key));
    if (lock.token !== token || lock.deadline <= now) return 0;
    memory.set(key, packLock(lock.fence, now + lease, token), lease);
    return 1;
  },
  decode: (reply) => reply === 1,
});
