import { defineOperation, type Operation } from './operation.ts';
import { arrayOf, textsAt } from './reply.ts';
import { packSortedSet, parseSortedSet } from './sorted-set.ts';

export interface CacheBoundArgs {
  readonly member: string;
  readonly lifeMs: number;
  readonly maxEntries: number;
}

/*
 * Notes an entry in the index of its policy, a sorted set whose scores are the ms until which each is kept, and takes
 * those out that are too many: the ones that would end first.
 *
 * KEYS   1 the index
 * ARGV   1 time, 2 member, 3 life ms, 4 most entries
 * reply  {{member that is too many, ...}}
 */
const lua = `
local key = KEYS[1]
if type(read('ZREMRANGEBYSCORE', key, '-inf', now)) == 'table' then redis.call('DEL', key) end
redis.call('ZADD', key, now + ARGV[3], ARGV[2])
local surplus = redis.call('ZCARD', key) - ARGV[4]
local out = surplus > 0 and redis.call('ZRANGE', key, 0, surplus - 1) or {}
for _, member in ipairs(out) do redis.call('ZREM', key, member) end
local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
redis.call('PEXPIRE', key, last[2] - now)
return { out }
`;

export const cacheBound: Operation<CacheBoundArgs, readonly string[]> = defineOperation({
  name: 'cache-bound',
  lua,
  encode: ({ member, lifeMs, maxEntries }) => [member, String(lifeMs), String(maxEntries)],
  twin(memory, [key = ''], now, { member, lifeMs, maxEntries }) {
    const others = (parseSortedSet(memory.get(key)) ?? []).filter(
      ([score, each]) => score > now && each !== member,
    );
    const all = parseSortedSet(packSortedSet([...others, [now + lifeMs, member]])) ?? [];
    const out = all.slice(0, Math.max(0, all.length - maxEntries));
    const left = all.slice(out.length);
    memory.set(key, packSortedSet(left), (left.at(-1)?.[0] ?? now) - now);
    return [out.map(([, each]) => Buffer.from(each))];
  },
  decode: (reply) => textsAt(arrayOf(reply), 0),
});
