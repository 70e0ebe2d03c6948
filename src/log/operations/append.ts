import { defineOperation, type Operation } from '../../engine/operation.ts';
import { arrayOf, bytesAt, type StoredFormat, storedFormatAt, storedFormatCode } from '../../engine/reply.ts';
import { FIRST_STREAM_ID, Stream, streamEntryBytes } from '../../engine/stream.ts';
import { announcementOf } from '../announcement.ts';
import { ENTRY_FORMAT } from './stored-entry.ts';

interface LogAppendArgs {
  readonly limit: number;
  /** Null for a log that does not expire. */
  readonly ttlMs: number | null;
  /** The event as JSON. */
  readonly text: string;
}

interface LogAppendReply {
  readonly found: StoredFormat;
  readonly cursor: string;
}

/*
 * Appends an event, removes the oldest entries above the limit, sets the TTL, and publishes the entry on the channel
 * of the same name as the key, with the id of the entry before it (0-0 for none). A value that is no stream is
 * replaced. The server chooses the id; with the time of a test, the script chooses it as the server would.
 *
 * KEYS   1 the log
 * ARGV   1 time, 2 limit, 3 TTL ms or empty, 4 the event
 * reply  {found, id}
 */
const lua = /* lua */ `
local found, previous, id = 0, '${FIRST_STREAM_ID}', '*'
local last = read('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if last.err then
  found = 1
  redis.call('DEL', KEYS[1])
elseif last[1] then
  previous = last[1][1]
end
if ARGV[1] ~= '' then
  id = ARGV[1] .. '-0'
  if redis.call('EXISTS', KEYS[1]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[1])
    for index = 1, #info, 2 do
      if info[index] == 'last-generated-id' then
        local ms, sequence = string.match(info[index + 1], '(%d+)-(%d+)')
        if tonumber(ARGV[1]) <= tonumber(ms) then id = ms .. '-' .. string.format('%.0f', sequence + 1) end
      end
    end
  end
end
id = redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[2], id, '${ENTRY_FORMAT}', ARGV[4])
if ARGV[3] == '' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
redis.call('PUBLISH', KEYS[1], '${ENTRY_FORMAT} ' .. previous .. ' ' .. id .. ' ' .. ARGV[4])
return { found, id }
`;

export const logAppend: Operation<LogAppendArgs, LogAppendReply> = defineOperation({
  name: 'log-append',
  lua,
  encode: ({ limit, ttlMs, text }) => [String(limit), ttlMs === null ? '' : String(ttlMs), text],
  runInMemory(memory, [key = ''], now, { limit, ttlMs, text }) {
    const stream = memory.collection(key, Stream);
    const found = stream === undefined && memory.get(key) !== undefined ? 'corrupt' : 'fine';
    const previous = stream?.last(1)[0]?.[0] ?? FIRST_STREAM_ID;
    const growth = streamEntryBytes(text);
    const cursor = memory.change(key, Stream, {
      growth,
      ttlMs: ttlMs ?? Number.POSITIVE_INFINITY,
      apply(log) {
        const id = log.add(now, ENTRY_FORMAT, text);
        log.trim(limit);
        return id;
      },
    });
    memory.publish(key, announcementOf({ previous, cursor, text }));
    return [storedFormatCode(found), Buffer.from(cursor)];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    return { found: storedFormatAt(fields, 0), cursor: String(bytesAt(fields, 1)) };
  },
});
