import { defineOperation, type Keyspace, type Operation, type RawReply } from '../../../engine/operation.ts';
import { arrayOf, bytesAt, integerAt, type StoredFormat, storedFormatAt } from '../../../engine/reply.ts';
import { CACHE_LUA, ENTRY_HEADER, entryTimes, fillOf, kindOf, namesOf, packFill } from './format.ts';

export interface CacheReadArgs {
  /** The request headers on which the responses vary, as far as the caller knows; empty for none. */
  readonly names: string;
  /** An entry of a lower sequence is not fresh: the caller knows of a purge that came after it. */
  readonly minSequence: number;
  /** The token under which the caller takes the lease if no entry is fresh; empty to take none. */
  readonly token: string;
  readonly lease: number;
}

/**
 * `none`: the entry is fresh, or the caller asked for no lease. `granted`: the caller holds the lease. `held`: another
 * caller holds the lease. `hit-for-miss`: the response cannot be stored.
 */
export type FillState = 'none' | 'granted' | 'held' | 'hit-for-miss';

const FILL_STATES: readonly FillState[] = ['none', 'granted', 'held', 'hit-for-miss'];

export interface CacheReadReply {
  readonly found: StoredFormat;
  /** The request headers on which the responses vary. If the caller gave others, the rest of the reply is empty. */
  readonly names: string;
  /** The packed entry, fresh or stale; null when none is stored. A view of the reply, not a copy. */
  readonly payload: Buffer | null;
  readonly sequence: number;
  /** Milliseconds since the entry was stored. */
  readonly age: number;
  /** Milliseconds for which the entry stays fresh; 0 or less once it is stale. */
  readonly left: number;
  /** Milliseconds until the entry is deleted. */
  readonly kept: number;
  readonly fill: FillState;
  /** Milliseconds until the lease or the hit-for-miss marker expires. */
  readonly fillLeft: number;
}

/*
 * Reads a cache entry, and takes the lease to fill the entry unless it is fresh. If another caller holds the lease, the
 * script records in the fill that a process waits.
 *
 * KEYS   1 the entry, or the marker of its variants, 2 the fill, 3 the variant, if ARGV 2 is not empty
 * ARGV   1 time, 2 names, 3 least sequence, 4 token or '', 5 lease ms
 * reply  {found, names, value or nil, age ms, left ms, kept ms, fill state, ms until the fill expires}
 */
const lua = /* lua */ `${CACHE_LUA}
local raw, names, found = read('GET', KEYS[1]), '', 0
local kind = kind_of(raw)
if kind == 'marker' then
  names = names_of(raw)
  if names ~= ARGV[2] then return { 0, names, false, 0, 0, 0, 0, 0 } end
  raw = read('GET', KEYS[3])
  kind = kind_of(raw)
end
if kind == 'newer' then return { 2, names, false, 0, 0, 0, 0, 0 } end
if kind and kind ~= 'entry' then found = 1 end

local age, left, kept, is_fresh = 0, 0, 0, false
if kind == 'entry' then
  local _, _, stored, fresh, keep, sequence = struct.unpack('>BBI6I6I6I8', raw)
  age, left, kept = math.max(0, now - stored), stored + fresh - now, stored + keep - now
  is_fresh = left > 0 and sequence >= tonumber(ARGV[3])
  if kept <= 0 then age, left, kept, kind, is_fresh = 0, 0, 0, nil, false end
end
if kind ~= 'entry' then raw = false end

if is_fresh or ARGV[4] == '' then return { found, names, raw, age, left, kept, 0, 0 } end
local state, waited, deadline = fill_of(KEYS[2])
if state == 'newer' then return { found, names, raw, age, left, kept, 3, 0 } end
if state and deadline > now then
  if state == 'L' and not waited then redis.call('SETRANGE', KEYS[2], 4, '1') end
  return { found, names, raw, age, left, kept, state == 'L' and 2 or 3, deadline - now }
end
redis.call('SET', KEYS[2], string.format('1:L:0:%.0f:%s', now + ARGV[5], ARGV[4]), 'PX', ARGV[5])
return { found, names, raw, age, left, kept, 1, tonumber(ARGV[5]) }
`;

export const cacheRead: Operation<CacheReadArgs, CacheReadReply> = defineOperation({
  name: 'cache-read',
  lua,
  encode: ({ names, minSequence, token, lease }) => [names, String(minSequence), token, String(lease)],
  runInMemory(memory, [key = '', fillKey = '', variantKey = ''], now, args) {
    let raw = memory.get(key);
    let kind = kindOf(raw);
    let names = '';
    if (kind === 'marker' && raw !== undefined) {
      names = namesOf(raw);
      if (names !== args.names) return [0, Buffer.from(names, 'latin1'), null, 0, 0, 0, 0, 0];
      raw = memory.get(variantKey);
      kind = kindOf(raw);
    }
    const namesReply = Buffer.from(names, 'latin1');
    if (kind === 'newer') return [2, namesReply, null, 0, 0, 0, 0, 0];
    const found = kind === undefined || kind === 'entry' ? 0 : 1;
    const nothing = [found, namesReply, null, 0, 0, 0] as const;
    if (kind !== 'entry' || raw === undefined) return [...nothing, ...takeLease(memory, fillKey, now, args)];
    const { stored, fresh, keep, sequence } = entryTimes(raw);
    const left = stored + fresh - now;
    const kept = stored + keep - now;
    if (kept <= 0) return [...nothing, ...takeLease(memory, fillKey, now, args)];
    const entry = [found, namesReply, raw, Math.max(0, now - stored), left, kept] as const;
    if (left > 0 && sequence >= args.minSequence) return [...entry, 0, 0];
    return [...entry, ...takeLease(memory, fillKey, now, args)];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    const raw = bytesAt(fields, 2);
    return {
      found: storedFormatAt(fields, 0),
      names: bytesAt(fields, 1)?.toString('latin1') ?? '',
      payload: raw?.subarray(ENTRY_HEADER) ?? null,
      sequence: raw === null ? 0 : entryTimes(raw).sequence,
      age: integerAt(fields, 3),
      left: integerAt(fields, 4),
      kept: integerAt(fields, 5),
      fill: FILL_STATES[integerAt(fields, 6)] ?? 'none',
      fillLeft: integerAt(fields, 7),
    };
  },
});

function takeLease(
  memory: Keyspace,
  key: string,
  now: number,
  { token, lease: leaseMs }: CacheReadArgs,
): readonly RawReply[] {
  if (token === '') return [0, 0];
  const fill = fillOf(memory, key);
  if (fill?.state === 'newer') return [3, 0];
  if (fill !== undefined && fill.deadline > now) {
    if (fill.state === 'L' && !fill.waited) memory.rewrite(key, packFill({ ...fill, waited: true }));
    return [fill.state === 'L' ? 2 : 3, fill.deadline - now];
  }
  memory.set(key, packFill({ state: 'L', waited: false, deadline: now + leaseMs, token }), leaseMs);
  return [1, leaseMs];
}
