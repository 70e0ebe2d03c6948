import { defineOperation, type Operation } from '../../engine/operation.ts';
import { STORED_LOCK_LUA, storeLock, unpackLock } from './stored-lock.ts';

export interface LockExtendArgs {
  readonly token: string;
  readonly lease: number;
}

/*
 * Restarts the holder's lease. A lease that has ended is not restarted, even while the lock is free: the holder's
 * signal has aborted.
 *
 * KEYS   1 the lock
 * ARGV   1 time, 2 token, 3 lease ms
 * reply  1 when extended, 0 when the token no longer holds the lock
 */
const lua = /* lua */ `${STORED_LOCK_LUA}
local lock = load_lock()
if lock.token ~= ARGV[2] or lock.fence == 0 or lock.deadline <= now then return 0 end
lock.deadline = now + ARGV[3]
store_lock(lock, ARGV[3])
return 1
`;

export const lockExtend: Operation<LockExtendArgs, boolean> = defineOperation({
  name: 'lock-extend',
  lua,
  encode: ({ token, lease }) => [token, String(lease)],
  runInMemory(memory, [key = ''], now, { token, lease }) {
    const { found: _, ...lock } = unpackLock(memory.get(key));
    if (lock.token !== token || lock.fence === 0 || lock.deadline <= now) return 0;
    storeLock(memory, key, { ...lock, deadline: now + lease }, lease);
    return 1;
  },
  decode: (reply) => reply === 1,
});
