import { LOCK_LUA, unpackLock } from './lock-record.ts';
import { defineOperation, type Operation } from './operation.ts';

export interface LockReleaseArgs {
  readonly token: string;
}

/*
 * Frees the lock if it is still its holder's.
 *
 * KEYS   1 the lock
 * ARGV   1 time, 2 token
 * reply  1 it was held until now, 0 the lease had ended before
 */
const lua = `${LOCK_LUA}
local lock = load()
if lock.token ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
return lock.deadline > now and 1 or 0
`;

export const lockRelease: Operation<LockReleaseArgs, boolean> = defineOperation({
  name: 'lock-release',
  lua,
  encode: ({ token }) => [token],
  twin(memory, [key = ''], now, { token }) {
    const lock = unpackLock(memory.get(key));
    if (lock.token !== token) return 0;
    memory.delete(key);
    return lock.deadline > now ? 1 : 0;
  },
  decode: (reply) => reply === 1,
});
