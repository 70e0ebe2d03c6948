import { defineOperation, type Keyspace, type Operation } from '../../../engine/operation.ts';
import { arrayOf, textsAt } from '../../../engine/reply.ts';
import type { SortedEntry } from '../../../engine/sorted-set.ts';

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
  runInMemory(memory, [key = ''], now, { member, lifeMs, maxEntries }) {
    // Something of another type.
    if (memory.sortedSet(key) === undefined) memory.delete(key);
    takeFirst(memory, key, ([until]) => until <= now);
    memory.removeSorted(key, member);
    const until = now + lifeMs;
    const lastUntil = Math.max(until, memory.sortedSet(key)?.at(-1)?.[0] ?? 0);
    memory.addSorted(key, [until, member], lastUntil - now);
    return [takeFirst(memory, key, (_, size) => size > maxEntries)];
  },
  decode: (reply) => textsAt(arrayOf(reply), 0),
});

/** Removes the members that would end first, as long as one is to go, and returns them. */
function takeFirst(
  memory: Keyspace,
  key: string,
  isToGo: (first: SortedEntry, size: number) => boolean,
): Buffer[] {
  const taken: Buffer[] = [];
  for (;;) {
    const set = memory.sortedSet(key);
    const first = set?.at(0);
    if (set === undefined || first === undefined || !isToGo(first, set.size)) return taken;
    memory.removeSorted(key, first[1]);
    taken.push(Buffer.from(first[1]));
  }
}
