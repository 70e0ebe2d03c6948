import { defineOperation, type Operation } from '../../engine/operation.ts';
import { Stream } from '../../engine/stream.ts';
import { CLEARED_TTL_MS } from './stored-entry.ts';

/*
 * Removes all entries. The empty stream is kept for a minute, so that later entries get greater ids even if the clock
 * goes back. A value that is no stream is deleted.
 *
 * KEYS   1 the log
 * ARGV   1 time (not used)
 * reply  1
 */
const lua = /* lua */ `
local length = read('XLEN', KEYS[1])
if type(length) == 'table' then
  redis.call('DEL', KEYS[1])
elseif redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('XTRIM', KEYS[1], 'MAXLEN', '=', 0)
  redis.call('PEXPIRE', KEYS[1], ${CLEARED_TTL_MS})
end
return 1
`;

export const logClear: Operation<undefined, void> = defineOperation({
  name: 'log-clear',
  lua,
  encode: () => [],
  runInMemory(memory, [key = '']) {
    if (memory.collection(key, Stream) === undefined) memory.delete(key);
    else memory.change(key, Stream, { growth: 0, ttlMs: CLEARED_TTL_MS, apply: (log) => log.trim(0) });
    return 1;
  },
  decode: () => undefined,
});
