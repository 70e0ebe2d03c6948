import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  bytesAt,
  integerAt,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';

export interface ConnectRedisSessionArgs {
  /** `get` reads the session, `set` writes the session with a TTL, `touch` sets a new TTL. */
  readonly mode: 'get' | 'set' | 'touch';
  /** The TTL to set, in milliseconds; unused by `get`. */
  readonly ttl: number;
  readonly data: Buffer;
}

export interface ConnectRedisSessionReply {
  readonly found: StoredFormat;
  /** The JSON of the session with `get`; null when no readable session exists, and with `set` and `touch`. */
  readonly data: Buffer | null;
  /** The TTL in milliseconds; negative when no session exists, or its key has no TTL. */
  readonly ttl: number;
}

/*
 * Reads or writes a session in the format of connect-redis: a JSON string that ends with the TTL of its key.
 *
 * KEYS   1 the session
 * ARGV   1 time, 2 mode, 3 ttl ms, 4 data
 * reply  {found, data or nil, ttl ms}
 */
const lua = /* lua */ `
local key, mode = KEYS[1], ARGV[2]
if mode == 'set' then
  redis.call('SET', key, ARGV[4], 'PX', ARGV[3])
  return { 0, false, tonumber(ARGV[3]) }
elseif mode == 'touch' then
  redis.call('PEXPIRE', key, ARGV[3])
  return { 0, false, redis.call('PTTL', key) }
end
local data = read('GET', key)
if type(data) == 'table' then return { 1, false, -1 } end
return { 0, data, redis.call('PTTL', key) }
`;

export const connectRedisSession: Operation<ConnectRedisSessionArgs, ConnectRedisSessionReply> =
  defineOperation({
    name: 'connect-redis-session',
    lua,
    encode: ({ mode, ttl, data }) => [mode, String(ttl), data],
    runInMemory(memory, [key = ''], _now, { mode, ttl, data }) {
      const stored = memory.get(key);
      if (mode === 'get') return [storedFormatCode('fine'), stored ?? null, memory.ttl(key) ?? -2];
      const value = mode === 'set' ? data : stored;
      if (value !== undefined) memory.set(key, value, ttl);
      return [0, null, value === undefined ? -2 : ttl];
    },
    decode(reply) {
      const fields = arrayOf(reply);
      return { found: storedFormatAt(fields, 0), data: bytesAt(fields, 1), ttl: integerAt(fields, 2) };
    },
  });
