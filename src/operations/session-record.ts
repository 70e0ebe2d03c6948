import type { Found } from './reply.ts';

/*
 * How a session is stored:
 *
 *   'S', version 1, created u48, expires u48, idle u48, absolute u48 (0: none), then the data as JSON
 *
 * Times are milliseconds of the server's clock, big-endian. `expires` is what ends a session; the key's TTL only
 * follows it.
 */
const SESSION_HEADER = 26;

/** Defines `load()`, which answers { found, created, expires, idle, absolute, data } of KEYS[1], dead or alive. */
export const SESSION_LUA: string = `
local HEADER = ${SESSION_HEADER}
local function load()
  local raw = read('GET', KEYS[1])
  if not raw then return { found = 0, expires = 0 } end
  local version = type(raw) == 'string' and string.byte(raw, 2)
  if not version or string.sub(raw, 1, 1) ~= 'S' then return { found = 1, expires = 0 } end
  if version > 1 then return { found = 2, expires = 0 } end
  if version < 1 or #raw < HEADER then return { found = 1, expires = 0 } end
  local _, _, created, expires, idle, absolute = struct.unpack('>BBI6I6I6I6', raw)
  return { found = 0, created = created, expires = expires, idle = idle, absolute = absolute,
           data = string.sub(raw, HEADER + 1) }
end
local function until_idle(idle, absolute)
  if absolute > 0 then return math.min(now + idle, absolute) end
  return now + idle
end
`;

export interface SessionRecord {
  readonly found: Found;
  readonly created: number;
  readonly expires: number;
  readonly idle: number;
  readonly absolute: number;
  readonly data: Buffer;
}

export function unpackSession(value: Buffer | undefined): SessionRecord {
  const none = { created: 0, expires: 0, idle: 0, absolute: 0, data: Buffer.alloc(0) };
  if (value === undefined) return { found: 'fine', ...none };
  const version = value[1];
  if (value[0] !== 0x53 || version === undefined) return { found: 'corrupt', ...none };
  if (version > 1) return { found: 'newer', ...none };
  if (version < 1 || value.length < SESSION_HEADER) return { found: 'corrupt', ...none };
  return {
    found: 'fine',
    created: value.readUIntBE(2, 6),
    expires: value.readUIntBE(8, 6),
    idle: value.readUIntBE(14, 6),
    absolute: value.readUIntBE(20, 6),
    data: value.subarray(SESSION_HEADER),
  };
}

export function packSession(record: Omit<SessionRecord, 'found'>): Buffer {
  const header = Buffer.alloc(SESSION_HEADER);
  header[0] = 0x53;
  header[1] = 1;
  header.writeUIntBE(record.created, 2, 6);
  header.writeUIntBE(record.expires, 8, 6);
  header.writeUIntBE(record.idle, 14, 6);
  header.writeUIntBE(record.absolute, 20, 6);
  return Buffer.concat([header, record.data]);
}

export function untilIdle(now: number, idle: number, absolute: number): number {
  return absolute > 0 ? Math.min(now + idle, absolute) : now + idle;
}
