import { defineOperation, type Keyspace, type Operation } from '../../../engine/operation.ts';
import { arrayOf, integerAt, textsAt } from '../../../engine/reply.ts';
import {
  CACHE_LUA,
  entryTimes,
  fillOf,
  kindOf,
  namesOf,
  packEntryTimes,
  packMarker,
  VARIANT_ID_LENGTH,
  variantsOf,
} from './format.ts';

export interface CacheWriteArgs {
  /** The token of the lease under which the entry was filled; empty for none. */
  readonly token: string;
  /** Where the end of the fill is published if another process waits for it. */
  readonly channel: string;
  readonly message: string;
  /** Milliseconds for which the entry is fresh. */
  readonly fresh: number;
  /** Milliseconds until the entry is deleted. */
  readonly keep: number;
  /** The sequence before the handler ran. */
  readonly sequence: number;
  /** The request headers on which the response varies; empty for none. */
  readonly names: string;
  /** The id of the variant, in 16 characters; empty if the response does not vary. */
  readonly variant: string;
  readonly maxVariants: number;
  readonly payload: Buffer;
}

export interface CacheWriteReply {
  /** False when Redis has a newer entry, or an entry in a newer format. */
  readonly stored: boolean;
  /** Ids of variants beyond `maxVariants`, or by other headers. The caller deletes their keys, which are no KEYS. */
  readonly evicted: readonly string[];
}

/*
 * Stores a cache entry and ends its fill.
 *
 * KEYS   1 the entry, or the marker of its variants, 2 the fill, 3 the variant, if the response varies
 * ARGV   1 time, 2 token, 3 channel, 4 message, 5 fresh ms, 6 keep ms, 7 sequence, 8 names, 9 variant,
 *        10 most variants, 11 payload
 * reply  {1 stored or 0, {evicted variant, ...}}
 */
const lua = /* lua */ `${CACHE_LUA}
local state, waited, _, token = fill_of(KEYS[2])
if state == 'P' or state == 'L' and token == ARGV[2] then
  redis.call('DEL', KEYS[2])
  -- By pcall: an ACL that denies PUBLISH must not prevent the write.
  if waited then redis.pcall('PUBLISH', ARGV[3], ARGV[4]) end
end

local function may_replace(raw)
  local kind = kind_of(raw)
  if kind == 'newer' then return false end
  return kind ~= 'entry' or sequence_of(raw) <= tonumber(ARGV[7])
end
local primary = read('GET', KEYS[1])
if not may_replace(primary) then return { 0, {} } end
local entry = struct.pack('>BBI6I6I6I8', 67, 1, now, tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])) .. ARGV[11]
if ARGV[8] ~= '' and not may_replace(read('GET', KEYS[3])) then return { 0, {} } end

-- Variants by other names are never read again.
local variants, evicted, last = {}, {}, now + ARGV[6]
if kind_of(primary) == 'marker' then
  local names = names_of(primary)
  for at = 5 + #names, #primary, ${VARIANT_ID_LENGTH + 6} do
    local id = string.sub(primary, at, at + ${VARIANT_ID_LENGTH - 1})
    local deadline = struct.unpack('>I6', primary, at + ${VARIANT_ID_LENGTH})
    if names ~= ARGV[8] then
      evicted[#evicted + 1] = id
    elseif id ~= ARGV[9] and deadline > now then
      variants[#variants + 1] = { id, deadline }
      last = math.max(last, deadline)
    end
  end
end
if ARGV[8] == '' then
  redis.call('SET', KEYS[1], entry, 'PX', ARGV[6])
  return { 1, evicted }
end
variants[#variants + 1] = { ARGV[9], now + ARGV[6] }
while #variants > tonumber(ARGV[10]) do evicted[#evicted + 1] = table.remove(variants, 1)[1] end
local marker = { struct.pack('>BBI2', 86, 1, #ARGV[8]), ARGV[8] }
for _, variant in ipairs(variants) do marker[#marker + 1] = variant[1] .. struct.pack('>I6', variant[2]) end
redis.call('SET', KEYS[1], table.concat(marker), 'PX', last - now)
redis.call('SET', KEYS[3], entry, 'PX', ARGV[6])
return { 1, evicted }
`;

/** The message that wakes other processes when a fill ends. */
export function filledMessage(fillKey: string): string {
  return JSON.stringify(['filled', fillKey]);
}

export const cacheWrite: Operation<CacheWriteArgs, CacheWriteReply> = defineOperation({
  name: 'cache-write',
  lua,
  encode: (args) => [
    args.token,
    args.channel,
    args.message,
    String(args.fresh),
    String(args.keep),
    String(args.sequence),
    args.names,
    args.variant,
    String(args.maxVariants),
    args.payload,
  ],
  runInMemory(memory, [key = '', fillKey = '', variantKey = ''], now, args) {
    endFillOf(memory, fillKey, args);
    const { fresh, keep, sequence, names } = args;
    const primary = memory.get(key);
    if (!mayReplace(primary, sequence)) return [0, []];
    const entry = Buffer.concat([packEntryTimes({ stored: now, fresh, keep, sequence }), args.payload]);
    if (names !== '' && !mayReplace(memory.get(variantKey), sequence)) return [0, []];
    const isMarker = primary !== undefined && kindOf(primary) === 'marker';
    const known = isMarker ? variantsOf(primary) : [];
    const isOfNames = isMarker && namesOf(primary) === names;
    const lost = isOfNames ? [] : known;
    if (names === '') {
      memory.set(key, entry, keep);
      return [1, lost.map(({ id }) => Buffer.from(id, 'latin1'))];
    }
    const variants = (isOfNames ? known : []).filter(
      ({ id, deadline }) => id !== args.variant && deadline > now,
    );
    variants.push({ id: args.variant, deadline: now + keep });
    const last = Math.max(...variants.map(({ deadline }) => deadline));
    const evicted = [...lost, ...variants.splice(0, Math.max(0, variants.length - args.maxVariants))];
    memory.set(key, packMarker(names, variants), last - now);
    memory.set(variantKey, entry, keep);
    return [1, evicted.map(({ id }) => Buffer.from(id, 'latin1'))];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    return { stored: integerAt(fields, 0) === 1, evicted: textsAt(fields, 1) };
  },
});

function endFillOf(memory: Keyspace, key: string, { token, channel, message }: CacheWriteArgs): void {
  const fill = fillOf(memory, key);
  if (fill?.state !== 'P' && !(fill?.state === 'L' && fill.token === token)) return;
  memory.delete(key);
  if (fill.waited) memory.publish(channel, message);
}

function mayReplace(raw: Buffer | undefined, sequence: number): boolean {
  const kind = kindOf(raw);
  if (kind === 'newer') return false;
  return kind !== 'entry' || raw === undefined || entryTimes(raw).sequence <= sequence;
}
