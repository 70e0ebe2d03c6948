import type { Keyspace } from '../../engine/operation.ts';
import { GRACE_MS, TURN_MS, WAITING_LINE_LUA, type WaitingLine } from '../../waiting/queue.ts';

/*
 * Who runs at once: a sorted set of tokens whose scores are the ms until which each has its slot, so that a process that
 * died gives its own back. A slot that is given to who waits is kept for a turn, as '<token>:<process>', until it asks; a
 * turn that nobody took tells that the process may be dead, and it loses its places in the line.
 */

/** No lease lasts so long: what claims to was written by somebody else. */
const LONGEST_MS = 25 * 86_400_000;

/**
 * Defines `slots_open(process)`, which forgets what has ended, for one who asks from that process; `slots_take(member,
 * ms)`; `slots_end(token, process)`, which ends a slot or a turn and answers whether there was one; and
 * `slots_give(limit, own)`, which gives what is free to those who wait, first come first served, and answers whether
 * `own` was among them. KEYS[1] are the slots, KEYS[2] is the line; CHANNELS must be defined before.
 */
export const SLOTS_LUA: string = `${WAITING_LINE_LUA}
local SLOTS, LINE, found = KEYS[1], KEYS[2], 0
local function slots_open(process)
  line_open(LINE)
  if type(read('ZCARD', SLOTS)) == 'table' then
    found = 1
    redis.call('DEL', SLOTS)
  else
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', SLOTS, '-inf', now)) do
      local other = string.match(member, '^[%w_-]+:([%w_-]+)$')
      if other and other ~= process then line_drop(LINE, other) end
      redis.call('ZREM', SLOTS, member)
    end
    redis.call('ZREMRANGEBYSCORE', SLOTS, string.format('(%.0f', now + ${LONGEST_MS}), '+inf')
  end
  line_prune(LINE)
end

local function slots_take(member, ms)
  redis.call('ZADD', SLOTS, string.format('%.0f', now + ms), member)
  local last = redis.call('ZRANGE', SLOTS, -1, -1, 'WITHSCORES')
  redis.call('PEXPIRE', SLOTS, string.format('%.0f', last[2] - now + ${GRACE_MS}))
end

local function slots_end(token, process)
  return redis.call('ZREM', SLOTS, token, token .. ':' .. process) > 0
end

local function slots_give(limit, own)
  while redis.call('ZCARD', SLOTS) < limit do
    local first = line_first(LINE)
    if not first then return false end
    if first.token == own then return true end
    slots_take(first.token .. ':' .. first.process, ${TURN_MS})
    line_call(LINE, first)
  end
  return false
end
`;

/** The slots as the twins see them. */
export class Slots {
  /** What was there could not be read, and counts as nothing. */
  readonly isCorrupt: boolean;
  readonly #memory: Keyspace;
  readonly #key: string;
  readonly #now: number;
  readonly #line: WaitingLine;

  constructor(memory: Keyspace, key: string, now: number, line: WaitingLine, process: string) {
    this.#memory = memory;
    this.#key = key;
    this.#now = now;
    this.#line = line;
    this.isCorrupt = this.#set === undefined && memory.get(key) !== undefined;
    if (this.isCorrupt) memory.delete(key);
    for (let first = this.#set?.at(0); first !== undefined && first[0] <= now; first = this.#set?.at(0)) {
      const other = /^[\w-]+:([\w-]+)$/.exec(first[1])?.[1];
      if (other !== undefined && other !== process) line.drop(other);
      memory.removeSorted(key, first[1]);
    }
    const longest = now + LONGEST_MS;
    for (let last = this.#set?.at(-1); last !== undefined && last[0] > longest; last = this.#set?.at(-1)) {
      memory.removeSorted(key, last[1]);
    }
    line.prune();
  }

  get count(): number {
    return this.#set?.size ?? 0;
  }

  /** Until the first of them ends; -1 when there is none. */
  get leftMs(): number {
    const first = this.#set?.at(0);
    return first === undefined ? -1 : first[0] - this.#now;
  }

  take(member: string, ms: number): void {
    const until = this.#now + ms;
    this.#memory.removeSorted(this.#key, member);
    const lastUntil = Math.max(until, this.#set?.at(-1)?.[0] ?? 0);
    this.#memory.addSorted(this.#key, [until, member], lastUntil - this.#now + GRACE_MS);
  }

  /** Ends a slot or a turn; whether there was one. */
  end(token: string, process: string): boolean {
    const wasSlot = this.#memory.removeSorted(this.#key, token);
    return this.#memory.removeSorted(this.#key, `${token}:${process}`) || wasSlot;
  }

  /** Gives what is free to those who wait; whether `own` was among them. */
  give(limit: number, own: string): boolean {
    while (this.count < limit) {
      const first = this.#line.first();
      if (first === undefined) return false;
      if (first.token === own) return true;
      this.take(`${first.token}:${first.process}`, TURN_MS);
      this.#line.call(first);
    }
    return false;
  }

  get #set(): ReturnType<Keyspace['sortedSet']> {
    return this.#memory.sortedSet(this.#key);
  }
}
