import { defineOperation, type Operation } from '../../../engine/operation.ts';
import { CACHE_LUA, fillOf, packFill } from './format.ts';

export interface CacheFillRenewArgs {
  readonly token: string;
  readonly lease: number;
}

/*
 * Renews the lease of a fill, if the caller still holds it. The result is whether another process waits for the fill.
 *
 * KEYS   1 the fill
 * ARGV   1 time, 2 token, 3 lease ms
 * reply  2 renewed and another process waits, 1 renewed, 0 the lease is not the caller's
 */
const renewLua = /* lua */ `${CACHE_LUA}
local state, waited, deadline, token = fill_of(KEYS[1])
if state ~= 'L' or token ~= ARGV[2] or deadline <= now then return 0 end
redis.call('SET', KEYS[1], string.format('1:L:%d:%.0f:%s', waited and 1 or 0, now + ARGV[3], token), 'PX', ARGV[3])
return waited and 2 or 1
`;

export const cacheFillRenew: Operation<CacheFillRenewArgs, boolean> = defineOperation({
  name: 'cache-fill-renew',
  lua: renewLua,
  encode: ({ token, lease }) => [token, String(lease)],
  runInMemory(memory, [key = ''], now, { token, lease }) {
    const fill = fillOf(memory, key);
    if (fill?.state !== 'L' || fill.token !== token || fill.deadline <= now) return 0;
    memory.set(key, packFill({ ...fill, deadline: now + lease }), lease);
    return fill.waited ? 2 : 1;
  },
  decode: (reply) => reply === 2,
});

export interface CacheFillEndArgs {
  readonly token: string;
  /** How long the hit-for-miss marker lasts; 0 for no marker. */
  readonly hitForMissMs: number;
  readonly channel: string;
  readonly message: string;
}

/*
 * Ends a fill that stored nothing, and wakes the processes that wait for it.
 *
 * KEYS   1 the fill
 * ARGV   1 time, 2 token, 3 hit-for-miss ms, 4 channel, 5 message
 * reply  1 ended, 0 the lease is not the caller's
 */
const endLua = /* lua */ `${CACHE_LUA}
local state, waited, _, token = fill_of(KEYS[1])
if state and (state ~= 'L' or token ~= ARGV[2]) then return 0 end
if ARGV[3] ~= '0' then
  redis.call('SET', KEYS[1], string.format('1:P:0:%.0f:', now + ARGV[3]), 'PX', ARGV[3])
else
  redis.call('DEL', KEYS[1])
end
if waited then redis.pcall('PUBLISH', ARGV[4], ARGV[5]) end
return 1
`;

export const cacheFillEnd: Operation<CacheFillEndArgs, boolean> = defineOperation({
  name: 'cache-fill-end',
  lua: endLua,
  encode: ({ token, hitForMissMs, channel, message }) => [token, String(hitForMissMs), channel, message],
  runInMemory(memory, [key = ''], now, { token, hitForMissMs, channel, message }) {
    const fill = fillOf(memory, key);
    if (fill !== undefined && (fill.state !== 'L' || fill.token !== token)) return 0;
    if (hitForMissMs > 0) {
      const marker = { state: 'P', waited: false, deadline: now + hitForMissMs, token: '' } as const;
      memory.set(key, packFill(marker), hitForMissMs);
    } else memory.delete(key);
    if (fill?.waited === true) memory.publish(channel, message);
    return 1;
  },
  decode: (reply) => reply === 1,
});
