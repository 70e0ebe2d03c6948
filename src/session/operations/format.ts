import type { RawReply } from '../../engine/operation.ts';
import { arrayOf, bytesAt, newerFormat, type StoredFormat, storedFormatAt } from '../../engine/reply.ts';
import { SEALED } from './data.ts';

/*
 * The stored format of a session:
 *
 *   'S', version, created u48, seen u48, idle u48, absolute u48 (0: none), indexed u48, revision u32,
 *   length of owner u8, owner, then the data (see data.ts)
 *
 * Times are milliseconds of the server's clock, big-endian. A session expires `idle` ms after it was last `seen`, and
 * at `absolute` at the latest; the TTL of the key ends at the same time. Each write increments `revision`. `owner` is
 * the hashed user id, empty for a session without a user; the owner's index lists the session until `indexed`.
 *
 * The version is 2 if the data is sealed line by line, which an earlier version of the kit cannot read, and else 1.
 */
const SESSION_HEADER = 37;

/**
 * Defines `load()`, which returns whether the value of KEYS[1] is readable, as in a reply, and the value if it is;
 * `owner_of`; `expiry_of`; and `index_until`, which returns the ms until which the owner's index must list a session that
 * expires at `expires`, or 0 when the index needs no update.
 */
export const SESSION_LUA: string = /* lua */ `
local HEADER = ${SESSION_HEADER}
local function expiry_of(seen, idle, absolute)
  if absolute > 0 then return math.min(seen + idle, absolute) end
  return seen + idle
end
local function load()
  local raw = read('GET', KEYS[1])
  if not raw then return 0 end
  if type(raw) ~= 'string' then return 1 end
  local magic, version = string.byte(raw, 1, 2)
  if magic ~= 83 or not version then return 1 end
  if version > 2 then return 2 end
  if version < 1 or #raw < HEADER + (string.byte(raw, HEADER) or 0) then return 1 end
  return 0, raw
end
local function owner_of(raw)
  return string.sub(raw, HEADER + 1, HEADER + string.byte(raw, HEADER))
end
local function index_until(has_owner, expires, indexed, touch_after)
  if not has_owner or expires <= indexed then return 0 end
  return expires + touch_after
end
`;

export interface SessionRecord {
  readonly created: number;
  readonly seen: number;
  readonly idle: number;
  readonly absolute: number;
  readonly indexed: number;
  readonly revision: number;
  /** The hashed id of the user, whose index lists the session; empty for a session without a user. */
  readonly owner: string;
  readonly data: Buffer;
}

/** Returns the record of a stored value; no record when the session has expired or the value cannot be read. */
export function unpackSession(
  value: Buffer | undefined,
  now: number,
): { readonly found: StoredFormat; readonly record?: SessionRecord } {
  if (value === undefined) return { found: 'fine' };
  const version = value[1];
  if (value[0] !== 0x53 || version === undefined) return { found: 'corrupt' };
  if (version > 2) return { found: 'newer' };
  if (version < 1 || value.length < SESSION_HEADER + (value[SESSION_HEADER - 1] ?? 0)) {
    return { found: 'corrupt' };
  }
  const record = recordOf(value);
  return expiryOf(record) > now ? { found: 'fine', record } : { found: 'fine' };
}

/** The record of a value that is known to be readable. */
export function recordOf(value: Buffer): SessionRecord {
  const dataAt = SESSION_HEADER + (value[SESSION_HEADER - 1] ?? 0);
  return {
    created: value.readUIntBE(2, 6),
    seen: value.readUIntBE(8, 6),
    idle: value.readUIntBE(14, 6),
    absolute: value.readUIntBE(20, 6),
    indexed: value.readUIntBE(26, 6),
    revision: value.readUInt32BE(32),
    owner: value.toString('latin1', SESSION_HEADER, dataAt),
    data: value.subarray(dataAt),
  };
}

export function packSession(record: SessionRecord): Buffer {
  const header = Buffer.alloc(SESSION_HEADER);
  header[0] = 0x53;
  header[1] = record.data[0] === SEALED ? 2 : 1;
  header.writeUIntBE(record.created, 2, 6);
  header.writeUIntBE(record.seen, 8, 6);
  header.writeUIntBE(record.idle, 14, 6);
  header.writeUIntBE(record.absolute, 20, 6);
  header.writeUIntBE(record.indexed, 26, 6);
  header.writeUInt32BE(record.revision, 32);
  header[36] = record.owner.length;
  return Buffer.concat([header, Buffer.from(record.owner, 'latin1'), record.data]);
}

export function expiryOf({ seen, idle, absolute }: Omit<SessionRecord, 'data'>): number {
  return absolute > 0 ? Math.min(seen + idle, absolute) : seen + idle;
}

/** The ms until which the owner's index must list the session; 0 when the index needs no update. */
export function indexUntil(record: SessionRecord, touchAfter: number): number {
  const expires = expiryOf(record);
  return record.owner === '' || expires <= record.indexed ? 0 : expires + touchAfter;
}

/** Returns the fields of a reply whose first field is the stored format. Throws for a value in a newer format. */
export function fieldsOf(reply: RawReply): readonly RawReply[] {
  const fields = arrayOf(reply);
  if (storedFormatAt(fields, 0) === 'newer') throw newerFormat('session');
  return fields;
}

export function ownerAt(fields: readonly RawReply[], index: number): string {
  return bytesAt(fields, index)?.toString('latin1') ?? '';
}
