import { defineOperation, type Keyspace, type Operation } from '../../../engine/operation.ts';
import { arrayOf, textsAt } from '../../../engine/reply.ts';
import type { SortedEntry, SortedSet } from '../../../engine/sorted-set.ts';

export interface CacheEnterPolicyArgs {
  readonly member: string;
  readonly lifeMs: number;
  readonly maxEntries: number;
}

/*
 * Adds the key of an entry to the index of its policy, a sorted set whose scores are the times at which the entries
 * expire, and removes the surplus: the entries that expire first. If entries expire in the same
 * millisecond, each later one has a score that is a thousandth higher, so that the oldest are removed first.
 *
 * KEYS   1 the index
 * ARGV   1 time, 2 entry key, 3 lifetime ms, 4 most entries
 * reply  {{surplus entry key, ...}}
 */
const lua = /* lua */ `
local key, STEP = KEYS[1], 0.001
if type(read('ZREMRANGEBYSCORE', key, '-inf', now)) == 'table' then redis.call('DEL', key) end
local expires = now + ARGV[3]
local last_equal = redis.call('ZREVRANGEBYSCORE', key, '(' .. expires + 1, expires, 'WITHSCORES', 'LIMIT', 0, 1)[2]
redis.call('ZADD', key, last_equal and last_equal + STEP or expires, ARGV[2])
local surplus = redis.call('ZCARD', key) - ARGV[4]
local out = surplus > 0 and redis.call('ZRANGE', key, 0, surplus - 1) or {}
for _, member in ipairs(out) do redis.call('ZREM', key, member) end
local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
redis.call('PEXPIRE', key, math.ceil(last[2] - now))
return { out }
`;

export const cacheEnterPolicy: Operation<CacheEnterPolicyArgs, readonly string[]> = defineOperation({
  name: 'cache-enter-policy',
  lua,
  encode: ({ member, lifeMs, maxEntries }) => [member, String(lifeMs), String(maxEntries)],
  runInMemory(memory, [key = ''], now, { member, lifeMs, maxEntries }) {
    // A value of another Redis type is replaced.
    if (memory.sortedSet(key) === undefined) memory.delete(key);
    removeFirst(memory, key, ([until]) => until <= now);
    const until = expiresAfter(memory.sortedSet(key), now + lifeMs);
    memory.removeSorted(key, member);
    const lastUntil = Math.max(until, memory.sortedSet(key)?.at(-1)?.[0] ?? 0);
    memory.addSorted(key, [until, member], Math.ceil(lastUntil - now));
    return [removeFirst(memory, key, (_, size) => size > maxEntries)];
  },
  decode: (reply) => textsAt(arrayOf(reply), 0),
});

const STEP = 0.001;

/** The score of a new entry, after those of the entries that expire in the same millisecond. */
function expiresAfter(set: Pick<SortedSet, 'at'> | undefined, expires: number): number {
  let index = -1;
  while ((set?.at(index)?.[0] ?? 0) >= expires + 1) index--;
  const [lastEqual = 0] = set?.at(index) ?? [];
  return lastEqual >= expires ? lastEqual + STEP : expires;
}

/** Removes the members that expire first while `isSurplus` holds, and returns them. */
function removeFirst(
  memory: Keyspace,
  key: string,
  isSurplus: (first: SortedEntry, size: number) => boolean,
): Buffer[] {
  const removed: Buffer[] = [];
  for (;;) {
    const set = memory.sortedSet(key);
    const first = set?.at(0);
    if (set === undefined || first === undefined || !isSurplus(first, set.size)) return removed;
    memory.removeSorted(key, first[1]);
    removed.push(Buffer.from(first[1]));
  }
}
