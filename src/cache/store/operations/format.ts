import type { Keyspace } from '../../../engine/operation.ts';
import { storedInteger } from '../../../engine/stored-integer.ts';

/*
 * The values under the Redis keys of a cache entry:
 *
 *   an entry   'C', version 1, stored u48 (ms), fresh u48 (ms from `stored`), keep u48 (ms from `stored`),
 *              sequence u64, payload
 *   a marker   'V', version 1, length u16 of the names, the names of the request headers on which the responses vary,
 *              then for each variant, oldest first, its id (16 characters) and deadline u48
 *   a fill     '1:L:<waited 0 or 1>:<deadline>:<token>' while a process holds the lease to fill the entry,
 *              '1:P:0:<deadline>:' as hit-for-miss marker
 */
export const ENTRY_HEADER = 28;
export const VARIANT_ID_LENGTH = 16;

const VERSION = 1;
const ENTRY_MAGIC = 'C'.charCodeAt(0);
const MARKER_MAGIC = 'V'.charCodeAt(0);
const MARKER_HEADER = 4;
const VARIANT_LENGTH: number = VARIANT_ID_LENGTH + 6;

/**
 * Defines `kind_of(raw)`, which returns 'entry', 'marker', 'newer', 'corrupt' or nil; `sequence_of(entry)`;
 * `names_of(marker)`; and `fill_of(key)`, which returns state, waited, deadline and token. A fill of state 'newer' must
 * not be changed.
 */
export const CACHE_LUA: string = /* lua */ `
local function kind_of(raw)
  if not raw then return nil end
  if type(raw) ~= 'string' or #raw < 2 then return 'corrupt' end
  local magic, version = string.byte(raw, 1, 2)
  if magic ~= ${ENTRY_MAGIC} and magic ~= ${MARKER_MAGIC} or version < ${VERSION} then return 'corrupt' end
  if version > ${VERSION} then return 'newer' end
  if magic == ${ENTRY_MAGIC} then return #raw >= ${ENTRY_HEADER} and 'entry' or 'corrupt' end
  if #raw < ${MARKER_HEADER} then return 'corrupt' end
  local rest = #raw - ${MARKER_HEADER} - struct.unpack('>I2', raw, 3)
  return rest >= 0 and rest % ${VARIANT_LENGTH} == 0 and 'marker' or 'corrupt'
end
local function sequence_of(raw)
  return struct.unpack('>I8', raw, 21)
end
local function names_of(raw)
  return string.sub(raw, ${MARKER_HEADER} + 1, ${MARKER_HEADER} + struct.unpack('>I2', raw, 3))
end
local function fill_of(key)
  local raw = read('GET', key)
  if type(raw) ~= 'string' then return nil end
  local state, waited, deadline, token = string.match(raw, '^1:([LP]):([01]):(%d+):(.*)$')
  deadline = stored_integer(deadline)
  if deadline then return state, waited == '1', deadline, token end
  if string.match(raw, '^%d+:') and not string.match(raw, '^[01]:') then return 'newer', false, 0, '' end
  return nil
end
`;

type Kind = 'entry' | 'marker' | 'newer' | 'corrupt' | undefined;

export function kindOf(raw: Buffer | undefined): Kind {
  if (raw === undefined) return undefined;
  if (raw.length < 2) return 'corrupt';
  const [magic, version = 0] = raw;
  if ((magic !== ENTRY_MAGIC && magic !== MARKER_MAGIC) || version < VERSION) return 'corrupt';
  if (version > VERSION) return 'newer';
  if (magic === ENTRY_MAGIC) return raw.length >= ENTRY_HEADER ? 'entry' : 'corrupt';
  if (raw.length < MARKER_HEADER) return 'corrupt';
  const rest = raw.length - MARKER_HEADER - raw.readUInt16BE(2);
  return rest >= 0 && rest % VARIANT_LENGTH === 0 ? 'marker' : 'corrupt';
}

export interface EntryTimes {
  readonly stored: number;
  readonly fresh: number;
  readonly keep: number;
  readonly sequence: number;
}

export function entryTimes(raw: Buffer): EntryTimes {
  return {
    stored: raw.readUIntBE(2, 6),
    fresh: raw.readUIntBE(8, 6),
    keep: raw.readUIntBE(14, 6),
    sequence: Number(raw.readBigUInt64BE(20)),
  };
}

export function packEntryTimes({ stored, fresh, keep, sequence }: EntryTimes): Buffer {
  const header = Buffer.alloc(ENTRY_HEADER);
  header[0] = ENTRY_MAGIC;
  header[1] = VERSION;
  header.writeUIntBE(stored, 2, 6);
  header.writeUIntBE(fresh, 8, 6);
  header.writeUIntBE(keep, 14, 6);
  header.writeBigUInt64BE(BigInt(sequence), 20);
  return header;
}

export function namesOf(marker: Buffer): string {
  return marker.toString('latin1', MARKER_HEADER, MARKER_HEADER + marker.readUInt16BE(2));
}

interface Variant {
  readonly id: string;
  readonly deadline: number;
}

export function variantsOf(marker: Buffer): Variant[] {
  const variants: Variant[] = [];
  const first = MARKER_HEADER + marker.readUInt16BE(2);
  for (let at = first; at + VARIANT_LENGTH <= marker.length; at += VARIANT_LENGTH) {
    const idEnd = at + VARIANT_ID_LENGTH;
    variants.push({ id: marker.toString('latin1', at, idEnd), deadline: marker.readUIntBE(idEnd, 6) });
  }
  return variants;
}

export function packMarker(names: string, variants: readonly Variant[]): Buffer {
  const head = Buffer.alloc(MARKER_HEADER);
  head[0] = MARKER_MAGIC;
  head[1] = VERSION;
  head.writeUInt16BE(names.length, 2);
  const records = variants.map(({ id, deadline }) => {
    const record = Buffer.alloc(VARIANT_LENGTH);
    record.write(id, 'latin1');
    record.writeUIntBE(deadline, VARIANT_ID_LENGTH, 6);
    return record;
  });
  return Buffer.concat([head, Buffer.from(names, 'latin1'), ...records]);
}

interface FillRecord {
  readonly state: 'L' | 'P' | 'newer';
  readonly waited: boolean;
  readonly deadline: number;
  readonly token: string;
}

export function fillOf(memory: Keyspace, key: string): FillRecord | undefined {
  const raw = memory.get(key)?.toString('latin1');
  if (raw === undefined) return undefined;
  const [, state, waited, digits, token = ''] = /^1:([LP]):([01]):(\d+):(.*)$/s.exec(raw) ?? [];
  const deadline = storedInteger(digits);
  if (deadline !== undefined) {
    return { state: state as 'L' | 'P', waited: waited === '1', deadline, token };
  }
  return /^\d+:/.test(raw) && !/^[01]:/.test(raw)
    ? { state: 'newer', waited: false, deadline: 0, token: '' }
    : undefined;
}

export function packFill({ state, waited, deadline, token }: FillRecord): Buffer {
  return Buffer.from(`1:${state}:${waited ? 1 : 0}:${deadline}:${token}`, 'latin1');
}
