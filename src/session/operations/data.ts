import { changeLines, LINES_LUA, type LineChange } from './lines.ts';

/*
 * The data of a session, in one of these formats:
 *
 *   plain   0, length of meta u32, meta, content
 *   whole   1, a nonce, a tag, and the encrypted rest of the plain format: written by earlier versions of the kit
 *   sealed  2, size u32, length of meta u32, meta, content
 *
 * Numbers are big-endian. `meta` and `content` are JSON objects, in lines (see lines.ts). Objects that an earlier version
 * has written are in no lines. In the sealed format, each line is encrypted by itself, and `size` is the size of the
 * plain format without its first byte, give or take a byte per object.
 */
export type DataFormat = 0 | 2;

export const PLAIN = 0;
export const SEALED_WHOLE = 1;
export const SEALED = 2;

/** The keys of a session to set or to delete. */
export interface DataChanges {
  readonly format: DataFormat;
  readonly meta: readonly LineChange[];
  readonly content: readonly LineChange[];
}

/** The parts of stored data, as JSON texts. */
export interface DataParts {
  readonly meta: string;
  readonly content: string;
}

/**
 * Defines `change_data`, which applies changes to the data that begins at a position of the stored value. Returns the new
 * data and its size; nil for data in another format than that of the changes. `ARGV[first]` is the format, followed by
 * the number of changes of the meta, these changes, and the changes of the content.
 */
export const DATA_LUA: string = /* lua */ `${LINES_LUA}
local function change_data(raw, position, first)
  local format = string.byte(raw, position)
  SEALED = format == ${SEALED}
  local length_at = position + (SEALED and 5 or 1)
  if format ~= tonumber(ARGV[first]) or #raw < length_at + 3 then return nil end
  local meta_at = length_at + 4
  local content_at = meta_at + struct.unpack('>I4', raw, length_at)
  if content_at > #raw + 1 then return nil end
  local last = first + 1 + 2 * ARGV[first + 1]
  local meta = change_lines(string.sub(raw, meta_at, content_at - 1), first + 2, last)
  local content = change_lines(string.sub(raw, content_at), last + 1, #ARGV)
  if not meta or not content then return nil end
  if not SEALED then return struct.pack('>BI4', format, #meta) .. meta .. content, 4 + #meta + #content end
  local size = struct.unpack('>I4', raw, position + 1) + growth
  return struct.pack('>BI4I4', format, size, #meta) .. meta .. content, size
end
`;

export function changeData(
  data: Buffer,
  changes: DataChanges,
): { readonly data: Buffer; readonly size: number } | undefined {
  const parts = unpackData(data);
  if (parts?.format !== changes.format) return undefined;
  const meta = changeLines(parts.meta, latin1(changes.meta));
  const content = changeLines(parts.content, latin1(changes.content));
  if (meta === undefined || content === undefined) return undefined;
  const changed = { meta: meta.text, content: content.text };
  const size =
    parts.format === SEALED
      ? parts.size + meta.growth + content.growth
      : 4 + meta.text.length + content.text.length;
  return { data: packData(changes.format, size, changed, 'latin1'), size };
}

/** Packs data. `size` is stored in the sealed format only. */
export function packData(
  format: DataFormat,
  size: number,
  { meta, content }: DataParts,
  encoding: 'utf8' | 'latin1' = 'utf8',
): Buffer {
  const at = format === SEALED ? 5 : 1;
  const metaBytes = Buffer.byteLength(meta, encoding);
  const data = Buffer.allocUnsafe(at + 4 + metaBytes + Buffer.byteLength(content, encoding));
  data[0] = format;
  if (format === SEALED) data.writeUInt32BE(size >>> 0, 1);
  data.writeUInt32BE(metaBytes, at);
  data.write(meta, at + 4, encoding);
  data.write(content, at + 4 + metaBytes, encoding);
  return data;
}

/** The parts of data in the plain or the sealed format; undefined for other data. */
export function unpackData(
  data: Buffer,
  encoding: 'utf8' | 'latin1' = 'latin1',
): (DataParts & { readonly format: DataFormat; readonly size: number }) | undefined {
  const format = data[0];
  if (format !== PLAIN && format !== SEALED) return undefined;
  const at = format === SEALED ? 5 : 1;
  if (data.length < at + 4) return undefined;
  const contentAt = at + 4 + data.readUInt32BE(at);
  if (contentAt > data.length) return undefined;
  return {
    format,
    size: format === SEALED ? data.readUInt32BE(1) : data.length - 1,
    meta: data.toString(encoding, at + 4, contentAt),
    content: data.toString(encoding, contentAt),
  };
}

/** Changes whose characters are the bytes of their UTF-8. */
function latin1(changes: readonly LineChange[]): readonly LineChange[] {
  const bytesOf = (text: string) => Buffer.from(text).toString('latin1');
  return changes.map(({ start, value }) => ({ start: bytesOf(start), value: bytesOf(value) }));
}
