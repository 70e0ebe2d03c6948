import type { Keyspace } from '../../engine/operation.ts';
import { GRACE_MS, HANDOFF_MS, QUEUE_LUA, type WaiterQueue } from '../../waiting/queue.ts';

/*
 * The slots in use are a sorted set. A member is the token of a running request, and its score is the millisecond in
 * which the lease ends, so that the slots of a dead process become free. A slot that is kept for a waiter has the
 * member '<token>:<process>' until that waiter asks or the handoff ends. If the waiter does not ask in time, its
 * process may be dead, and all waiters of that process lose their places in the queue.
 */

/** Longer than any lease: a member whose deadline is further in the future was written by another client. */
const LONGEST_MS = 25 * 86_400_000;

/**
 * Defines `slots_open(process)`, which drops expired members, and the waiters of each other process that did not
 * confirm a handoff; `slots_take(member, ms)`; `slots_end(token, process)`, which ends a slot or a handoff and returns
 * whether one existed; `slots_hand_off(limit, own)`, which hands free slots off to waiters in their order, stops at the
 * waiter `own` with a slot still free, and then returns true; and `slots_fill()`, which hands free slots off up to the
 * limit of the waiter that joined last, since the limit may have changed. `count` is the number of slots in use, and
 * `has_queue` is false if no request waited at the beginning. KEYS[1] is the slots, KEYS[2] the queue. A script must
 * define `CHANNELS` before it includes this text.
 */
export const SLOTS_LUA: string = /* lua */ `${QUEUE_LUA}
local SLOTS, QUEUE, found, count, has_queue = KEYS[1], KEYS[2], 0, 0, false
local function slots_open(process)
  has_queue = queue_open(QUEUE) > 0
  count = read('ZCARD', SLOTS)
  if type(count) == 'table' then
    found, count = 1, 0
    redis.call('DEL', SLOTS)
  elseif count > 0 then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', SLOTS, '-inf', now)) do
      local other = string.match(member, '^[%w_-]+:([%w_-]+)$')
      if other and other ~= process then queue_drop(QUEUE, other) end
      count = count - redis.call('ZREM', SLOTS, member)
    end
    count = count - redis.call('ZREMRANGEBYSCORE', SLOTS, string.format('(%.0f', now + ${LONGEST_MS}), '+inf')
  end
  if has_queue then queue_first(QUEUE) end
end

local function slots_take(member, ms)
  count = count + redis.call('ZADD', SLOTS, string.format('%.0f', now + ms), member)
  local last = redis.call('ZRANGE', SLOTS, -1, -1, 'WITHSCORES')
  redis.call('PEXPIRE', SLOTS, string.format('%.0f', last[2] - now + ${GRACE_MS}))
end

local function slots_end(token, process)
  local ended = count > 0 and redis.call('ZREM', SLOTS, token, token .. ':' .. process) or 0
  count = count - ended
  return ended > 0
end

local function slots_hand_off(limit, own)
  while has_queue and count < limit do
    local first = queue_shift(QUEUE)
    if not first then return false end
    if first.token == own then return true end
    slots_take(first.token .. ':' .. first.process, ${HANDOFF_MS})
    queue_wake(QUEUE, first)
  end
  return false
end

local function slots_fill()
  local last = has_queue and queue_parse(redis.call('ZRANGE', QUEUE, -1, -1)[1])
  if last then slots_hand_off(last.limit or 1, '') end
end
`;

/** The slots for the in-memory implementations. */
export class StoredSlots {
  /** Whether the stored value was unreadable, and was deleted. */
  readonly isCorrupt: boolean;
  readonly #key: string;
  readonly #queue: WaiterQueue;

  constructor(key: string, queue: WaiterQueue) {
    this.#key = key;
    this.#queue = queue;
    this.isCorrupt = this.#set === undefined && queue.memory.get(key) !== undefined;
    if (this.isCorrupt) queue.memory.delete(key);
  }

  /** Drops expired members, and the waiters of each process other than `process` that did not confirm a handoff. */
  open(process: string): this {
    const queue = this.#queue;
    const { memory, now } = queue;
    for (let first = this.#set?.at(0); first !== undefined && first[0] <= now; first = this.#set?.at(0)) {
      const other = /^[\w-]+:([\w-]+)$/.exec(first[1])?.[1];
      if (other !== undefined && other !== process) queue.drop(other);
      memory.removeSorted(this.#key, first[1]);
    }
    const longest = now + LONGEST_MS;
    for (let last = this.#set?.at(-1); last !== undefined && last[0] > longest; last = this.#set?.at(-1)) {
      memory.removeSorted(this.#key, last[1]);
    }
    queue.first();
    return this;
  }

  get count(): number {
    return this.#set?.size ?? 0;
  }

  /** Milliseconds until the first slot expires; -1 when no slot is in use. */
  get leftMs(): number {
    const first = this.#set?.at(0);
    return first === undefined ? -1 : first[0] - this.#queue.now;
  }

  take(member: string, ms: number): void {
    const { memory, now } = this.#queue;
    const until = now + ms;
    memory.removeSorted(this.#key, member);
    const lastUntil = Math.max(until, this.#set?.at(-1)?.[0] ?? 0);
    memory.addSorted(this.#key, [until, member], lastUntil - now + GRACE_MS);
  }

  /** Ends the slot or the handoff of a token. Returns whether the token had one. */
  end(token: string, process: string): boolean {
    const { memory } = this.#queue;
    const wasSlot = memory.removeSorted(this.#key, token);
    return memory.removeSorted(this.#key, `${token}:${process}`) || wasSlot;
  }

  /** Hands free slots off to waiters in their order. Returns true if a slot is left for the waiter `own`. */
  handOff(limit: number, own: string): boolean {
    while (this.count < limit) {
      const first = this.#queue.shift();
      if (first === undefined) return false;
      if (first.token === own) return true;
      this.take(`${first.token}:${first.process}`, HANDOFF_MS);
      this.#queue.wake(first);
    }
    return false;
  }

  /** Hands free slots off to waiters, up to the limit of the waiter that joined last. */
  fill(): void {
    if (this.#queue.size > 0) this.handOff(this.#queue.limit ?? 1, '');
  }

  get #set(): ReturnType<Keyspace['sortedSet']> {
    return this.#queue.memory.sortedSet(this.#key);
  }
}
