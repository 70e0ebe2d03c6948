import { defineOperation, type Operation } from './operation.ts';

/** 'C', version 1, stored u48, ttl u48 (ms, big-endian), then what the cache room packed. */
export const CACHE_MAGIC = 'C';
export const CACHE_HEADER = 14;

export interface CacheWriteArgs {
  readonly ttl: number;
  readonly payload: Buffer;
}

/*
 * Stores a cache entry, unless a newer version of redis-kit keeps its own there.
 *
 * KEYS   1 the entry
 * ARGV   1 time, 2 ttl ms, 3 payload
 * reply  1 stored, 0 left alone
 */
const lua = `
local there = read('GETRANGE', KEYS[1], 0, 1)
if type(there) == 'string' and #there == 2 and string.sub(there, 1, 1) == '${CACHE_MAGIC}'
    and string.byte(there, 2) > 1 then
  return 0
end
redis.call('SET', KEYS[1], struct.pack('>BBI6I6', ${CACHE_MAGIC.charCodeAt(0)}, 1, now, tonumber(ARGV[2])) .. ARGV[3],
           'PX', ARGV[2])
return 1
`;

export const cacheWrite: Operation<CacheWriteArgs, boolean> = defineOperation({
  name: 'cache-write',
  lua,
  encode: ({ ttl, payload }) => [String(ttl), payload],
  twin(memory, [key = ''], now, { ttl, payload }) {
    const there = memory.get(key);
    if (there?.[0] === CACHE_MAGIC.charCodeAt(0) && (there[1] ?? 0) > 1) return 0;
    const header = Buffer.alloc(CACHE_HEADER);
    header.write(CACHE_MAGIC, 'latin1');
    header[1] = 1;
    header.writeUIntBE(now, 2, 6);
    header.writeUIntBE(ttl, 8, 6);
    memory.set(key, Buffer.concat([header, payload]), ttl);
    return 1;
  },
  decode: (reply) => reply === 1,
});
