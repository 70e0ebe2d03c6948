import { CACHE_HEADER, CACHE_MAGIC } from './cache-write.ts';
import { defineOperation, type Operation } from './operation.ts';
import { arrayOf, bytesAt, type Found, foundAt, integerAt } from './reply.ts';

export interface CacheReadReply {
  readonly found: Found;
  /** What was stored; null when there is nothing fresh. A view of the reply, not a copy. */
  readonly payload: Buffer | null;
  /** Milliseconds since it was stored. */
  readonly age: number;
  /** Milliseconds for which it stays fresh. */
  readonly left: number;
}

/*
 * Reads a cache entry that is still fresh.
 *
 * KEYS   1 the entry
 * ARGV   1 time
 * reply  {found, value or nil, age ms, left ms}
 */
const lua = `
local raw = read('GET', KEYS[1])
if not raw then return { 0, false, 0, 0 } end
local version = type(raw) == 'string' and string.byte(raw, 2)
if not version or string.sub(raw, 1, 1) ~= '${CACHE_MAGIC}' then return { 1, false, 0, 0 } end
if version > 1 then return { 2, false, 0, 0 } end
if version < 1 or #raw < ${CACHE_HEADER} then return { 1, false, 0, 0 } end
local _, _, stored, ttl = struct.unpack('>BBI6I6', raw)
local left = stored + ttl - now
if left <= 0 then return { 0, false, 0, 0 } end
return { 0, raw, math.max(0, now - stored), left }
`;

export const cacheRead: Operation<void, CacheReadReply> = defineOperation({
  name: 'cache-read',
  lua,
  encode: () => [],
  twin(memory, [key = ''], now) {
    const raw = memory.get(key);
    if (raw === undefined) return [0, null, 0, 0];
    const version = raw[1];
    if (version === undefined || raw[0] !== CACHE_MAGIC.charCodeAt(0)) return [1, null, 0, 0];
    if (version > 1) return [2, null, 0, 0];
    if (version < 1 || raw.length < CACHE_HEADER) return [1, null, 0, 0];
    const stored = raw.readUIntBE(2, 6);
    const left = stored + raw.readUIntBE(8, 6) - now;
    return left <= 0 ? [0, null, 0, 0] : [0, raw, Math.max(0, now - stored), left];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    return {
      found: foundAt(fields, 0),
      payload: bytesAt(fields, 1)?.subarray(CACHE_HEADER) ?? null,
      age: integerAt(fields, 2),
      left: integerAt(fields, 3),
    };
  },
});
