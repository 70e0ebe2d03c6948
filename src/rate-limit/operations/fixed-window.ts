import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  integerAt,
  newerFormat,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import { storedInteger } from '../../engine/stored-integer.ts';

/** A hit on a counter of `kit.expressRateLimitStore`. The kit's own limiters are exact and use no fixed window. */
export interface FixedWindowArgs {
  /** Hits to add: negative takes hits back, 0 only reads. */
  readonly delta: number;
  readonly window: number;
}

export interface FixedWindowReply {
  readonly hits: number;
  /** Milliseconds until the window ends; 0 when no window is open. */
  readonly resetMs: number;
  readonly found: StoredFormat;
}

/*
 * Counts hits in a window that begins with the first hit, stored as '1:<hits>:<end in ms>'. A hit that is taken back
 * after the window has ended stores nothing.
 *
 * KEYS   1 the counter
 * ARGV   1 time, 2 delta, 3 window ms
 * reply  {hits, reset ms, found}
 */
const lua = /* lua */ `
local delta, found, hits, ends = tonumber(ARGV[2]), 0, 0, 0
local raw = read('GET', KEYS[1])
if raw then
  local text = type(raw) == 'string' and raw or ''
  local version = tonumber(string.match(text, '^(%d+):') or '')
  if version and version > 1 then return { 0, 0, 2 } end
  local a, b = string.match(text, '^1:(%d+):(%d+)$')
  hits, ends = stored_integer(a), stored_integer(b)
  if not hits or not ends then hits, ends, found = 0, 0, 1 end
end
if ends <= now then
  if delta <= 0 then return { 0, 0, found } end
  hits, ends = 0, now + tonumber(ARGV[3])
end
hits = math.max(0, hits + delta)
if delta ~= 0 then
  redis.call('SET', KEYS[1], string.format('1:%.0f:%.0f', hits, ends), 'PX', ends - now)
end
return { hits, ends - now, found }
`;

export const fixedWindow: Operation<FixedWindowArgs, FixedWindowReply> = defineOperation({
  name: 'fixed-window',
  lua,
  encode: ({ delta, window }) => [String(delta), String(window)],
  runInMemory(memory, [key = ''], now, { delta, window }) {
    const text = memory.get(key)?.toString('latin1');
    const version = /^(\d+):/.exec(text ?? '')?.[1];
    if (version !== undefined && Number(version) > 1) return [0, 0, storedFormatCode('newer')];
    const parts = /^1:(\d+):(\d+)$/.exec(text ?? '');
    let [hits, ends] = [storedInteger(parts?.[1]), storedInteger(parts?.[2])];
    const isReadable = hits !== undefined && ends !== undefined;
    const found = storedFormatCode(isReadable || text === undefined ? 'fine' : 'corrupt');
    if (hits === undefined || ends === undefined) [hits, ends] = [0, 0];
    if (ends <= now) {
      if (delta <= 0) return [0, 0, found];
      [hits, ends] = [0, now + window];
    }
    hits = Math.max(0, hits + delta);
    if (delta !== 0) memory.set(key, Buffer.from(`1:${hits}:${ends}`, 'latin1'), ends - now);
    return [hits, ends - now, found];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    const found = storedFormatAt(fields, 2);
    if (found === 'newer') throw newerFormat('rate-limit');
    return { hits: integerAt(fields, 0), resetMs: integerAt(fields, 1), found };
  },
});
