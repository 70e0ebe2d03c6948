import { defineOperation, type Operation, type RawReply } from '../../engine/operation.ts';
import {
  arrayOf,
  bytesAt,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
  textsAt,
} from '../../engine/reply.ts';
import { Stream } from '../../engine/stream.ts';
import type { StoredEntry } from './stored-entry.ts';

interface LogReadArgs {
  /** Reads the oldest entries after this cursor; undefined reads the newest entries. */
  readonly after: string | undefined;
  readonly count: number;
}

interface LogReadReply {
  readonly found: StoredFormat;
  /** Oldest first. */
  readonly entries: readonly StoredEntry[];
}

/*
 * Reads entries after a cursor, or the last entries.
 *
 * KEYS   1 the log
 * ARGV   1 time (not used), 2 cursor or empty, 3 number of entries
 * reply  {found, entries oldest first, each as {id, {name, value, ...}}}
 */
const lua = /* lua */ `
local entries
if ARGV[2] == '' then
  entries = read('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[3])
else
  entries = read('XRANGE', KEYS[1], '(' .. ARGV[2], '+', 'COUNT', ARGV[3])
end
if entries.err then return { 1, {} } end
if ARGV[2] == '' then
  local count = #entries
  for index = 1, math.floor(count / 2) do
    entries[index], entries[count + 1 - index] = entries[count + 1 - index], entries[index]
  end
end
return { 0, entries }
`;

export const logRead: Operation<LogReadArgs, LogReadReply> = defineOperation({
  name: 'log-read',
  lua,
  encode: ({ after = '', count }) => [after, String(count)],
  runInMemory(memory, [key = ''], _now, { after, count }) {
    const stream = memory.collection(key, Stream);
    const found = stream === undefined && memory.get(key) !== undefined ? 'corrupt' : 'fine';
    const entries = (after === undefined ? stream?.last(count) : stream?.after(after, count)) ?? [];
    const bytes = ([id, field, value]: (typeof entries)[number]) => [
      Buffer.from(id),
      [Buffer.from(field), Buffer.from(value)],
    ];
    return [storedFormatCode(found), entries.map(bytes)];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    return { found: storedFormatAt(fields, 0), entries: arrayOf(fields[1]).map(storedEntryOf) };
  },
});

function storedEntryOf(reply: RawReply): StoredEntry {
  const entry = arrayOf(reply);
  const cursor = String(bytesAt(entry, 0));
  const [format = '', text = '', ...others] = textsAt(entry, 1);
  return others.length === 0 ? { cursor, format, text } : { cursor, format: '', text: '' };
}
