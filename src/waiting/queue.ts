import type { Keyspace } from '../engine/operation.ts';
import type { SortedEntry } from '../engine/sorted-set.ts';

/*
 * A queue of waiters, first come, first served: a sorted set. The score of a waiter is the microsecond in which it
 * joined, its member is '<token>:<process>:<ms that it waits>', followed by ':<limit>' in the queue of a concurrency
 * limit. A waiter whose wait is over is skipped, so the waiters of a dead process need not be removed.
 *
 * Each process subscribes to a channel of its own, which carries these messages:
 *
 *   now:<token>   the waiter asks at once
 *   soon:<token>  the waiter asks when the handoff to another process has expired, since that process may be dead;
 *                 one waiter of each process gets this message, since the next process may be dead too
 *   lost:<token>  the lock was taken away from its holder
 */

/** How long a lock or a slot is kept for a waiter that was woken. The waiter confirms the handoff with one command. */
export const HANDOFF_MS = 1_000;

/** How long a key outlives the deadlines in its value. */
export const GRACE_MS = 60_000;

/** How long a handoff is stored. Unconfirmed after its deadline, it shows that the waiter's process may be dead. */
export const HANDOFF_TTL_MS: number = HANDOFF_MS + GRACE_MS;

/**
 * How many waiters at the front and at the back of a queue are searched for other processes. The dead processes would
 * have to fill both ends of a longer queue, and even then a new waiter finds the expired handoff.
 */
const SEARCHED = 16;

export interface Waiter {
  readonly token: string;
  /** The process on whose channel the waiter is woken; may be empty for a caller that does not wait. */
  readonly process: string;
  /** The duration of the wait, from the first command on; 0 for a caller that does not join the queue. */
  readonly waitMs: number;
  /** The concurrency limit of the waiter's request; undefined in the queue of a lock. */
  readonly limit?: number | undefined;
}

/** The arguments of the operations on a queue. */
export interface QueueArgs extends Waiter {
  /** The prefix of the channels of all processes. */
  readonly channels: string;
}

export function memberOf({ token, process, waitMs, limit }: Waiter): string {
  return `${token}:${process}:${waitMs}${limit === undefined ? '' : `:${limit}`}`;
}

/**
 * Defines `queue_open(key)`, which deletes a value of another type and returns the number of waiters, so that a script
 * calls the other functions only if there are any; `queue_join(key, member)`; `queue_leave(key, member)`;
 * `queue_lasts(waiter, score, ms)`, which returns whether the wait lasts for longer than `ms` from now;
 * `queue_first(key)`, which removes waiters whose wait is over from the front and returns the first remaining waiter;
 * `queue_shift(key)`, which also removes that waiter; `queue_wake(key, waiter)`; `queue_drop(key, process)`, which
 * removes all waiters of a process; and `queue_notify(word, waiter)`, which publishes a message. A script must define
 * `CHANNELS`, the prefix of all channels, before it includes this text.
 */
export const QUEUE_LUA: string = /* lua */ `
local function queue_parse(member)
  local token, process, wait, limit = string.match(member or '', '^([%w_-]+):([%w_-]+):(%d+):?(%d*)$')
  return token and { member = member, token = token, process = process, wait = tonumber(wait), limit = tonumber(limit) }
end

local function queue_open(key)
  local count = read('ZCARD', key)
  if type(count) == 'number' then return count end
  redis.call('DEL', key)
  return 0
end

local function queue_join(key, member)
  if redis.call('ZSCORE', key, member) then return end
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
  redis.call('ZADD', key, string.format('%.0f', math.max((tonumber(last[2]) or 0) + 1, now_us)), member)
  redis.call('PEXPIRE', key, string.format('%.0f', math.max(redis.call('PTTL', key), queue_parse(member).wait + ${GRACE_MS})))
end

local function queue_leave(key, member) redis.call('ZREM', key, member) end

local function queue_lasts(waiter, score, ms) return math.floor(score / 1000) + waiter.wait > now + ms end

local function queue_first(key)
  while true do
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if not first[1] then return nil end
    local waiter = queue_parse(first[1])
    if waiter and queue_lasts(waiter, first[2], 0) then return waiter end
    redis.call('ZREM', key, first[1])
  end
end

local function queue_shift(key)
  local waiter = queue_first(key)
  if waiter then redis.call('ZREM', key, waiter.member) end
  return waiter
end

local function queue_notify(word, waiter)
  if waiter.process ~= '' then redis.pcall('PUBLISH', CHANNELS .. waiter.process, word .. ':' .. waiter.token) end
end

local function queue_wake(key, waiter)
  queue_notify('now', waiter)
  local seen = { [waiter.process] = true }
  local function notify_others(from, to)
    local members = redis.call('ZRANGE', key, from, to, 'WITHSCORES')
    for i = 1, #members, 2 do
      local other = queue_parse(members[i])
      if other and not seen[other.process] and queue_lasts(other, members[i + 1], ${HANDOFF_MS}) then
        seen[other.process] = true
        queue_notify('soon', other)
      end
    end
    return #members / 2
  end
  if notify_others(0, ${SEARCHED - 1}) == ${SEARCHED} then notify_others(-${SEARCHED}, -1) end
end

local function queue_drop(key, process)
  for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local waiter = queue_parse(member)
    if waiter and waiter.process == process then
      redis.call('ZREM', key, member)
      queue_notify('now', waiter)
    end
  end
end
`;

const MEMBER = /^([\w-]+):([\w-]+):(\d+):?(\d*)$/;

function parse(member: string | undefined): Waiter | undefined {
  const parts = MEMBER.exec(member ?? '');
  if (parts === null) return undefined;
  const [, token = '', process = '', wait, limit] = parts;
  return { token, process, waitMs: Number(wait), limit: limit === '' ? undefined : Number(limit) };
}

/** The queue of waiters, for the in-memory implementations. */
export class WaiterQueue {
  readonly memory: Keyspace;
  readonly now: number;
  readonly #key: string;
  readonly #channels: string;

  constructor(memory: Keyspace, key: string, now: number, channels: string) {
    this.memory = memory;
    this.#key = key;
    this.now = now;
    this.#channels = channels;
    // The set is undefined if the key has a value of another type, which is deleted.
    if (this.#set === undefined) memory.delete(key);
  }

  join(member: string): void {
    if (this.has(member)) return;
    const score = Math.max((this.#set?.at(-1)?.[0] ?? 0) + 1, this.now * 1_000);
    const ttl = Math.max(this.memory.ttl(this.#key) ?? 0, (parse(member)?.waitMs ?? 0) + GRACE_MS);
    this.memory.addSorted(this.#key, [score, member], ttl);
  }

  leave(member: string): void {
    this.memory.removeSorted(this.#key, member);
  }

  has(member: string): boolean {
    return this.#set?.has(member) ?? false;
  }

  /** The limit of the waiter that joined last. */
  get limit(): number | undefined {
    return parse(this.#set?.at(-1)?.[1])?.limit;
  }

  /** The number of waiters, including those whose wait is over. */
  get size(): number {
    return this.#set?.size ?? 0;
  }

  /** The number of waiters whose wait is not over. */
  get waiting(): number {
    const entries = this.#set?.entries() ?? [];
    return entries.filter(([score, member]) => this.#lasts(score, parse(member), 0)).length;
  }

  /** Removes waiters whose wait is over from the front, and returns the first remaining waiter. */
  first(): Waiter | undefined {
    for (let first = this.#set?.at(0); first !== undefined; first = this.#set?.at(0)) {
      const [score, member] = first;
      const waiter = parse(member);
      if (this.#lasts(score, waiter, 0)) return waiter;
      this.leave(member);
    }
    return undefined;
  }

  /** Removes and returns the first waiter whose wait is not over. */
  shift(): Waiter | undefined {
    const waiter = this.first();
    if (waiter !== undefined) this.leave(memberOf(waiter));
    return waiter;
  }

  /** Wakes a waiter, and later a waiter of each other process, in case the process of the first waiter is dead. */
  wake(waiter: Waiter): void {
    this.notify('now', waiter);
    const seen = new Set([waiter.process]);
    for (const [score, member] of this.#ends()) {
      const other = parse(member);
      if (other === undefined || seen.has(other.process) || !this.#lasts(score, other, HANDOFF_MS)) continue;
      seen.add(other.process);
      this.notify('soon', other);
    }
  }

  /** The waiters at the front and at the back. */
  *#ends(): Generator<SortedEntry> {
    const set = this.#set;
    const size = set?.size ?? 0;
    for (let index = 0; index < size; index++) {
      if (index === SEARCHED) index = Math.max(index, size - SEARCHED);
      const entry = set?.at(index);
      if (entry !== undefined) yield entry;
    }
  }

  /** Removes all waiters of a process that may be dead. If the process lives, its waiters are woken and join again. */
  drop(process: string): void {
    // A copy, since the set changes in the loop.
    for (const [, member] of [...(this.#set?.entries() ?? [])]) {
      const waiter = parse(member);
      if (waiter?.process !== process) continue;
      this.leave(member);
      this.notify('now', waiter);
    }
  }

  notify(word: 'now' | 'soon' | 'lost', { token, process }: Pick<Waiter, 'token' | 'process'>): void {
    if (process !== '') this.memory.publish(`${this.#channels}${process}`, `${word}:${token}`);
  }

  /** Whether the wait of a waiter lasts for longer than `ms` from now. */
  #lasts(score: number, waiter: Waiter | undefined, ms: number): boolean {
    return waiter !== undefined && Math.floor(score / 1_000) + waiter.waitMs > this.now + ms;
  }

  get #set(): ReturnType<Keyspace['sortedSet']> {
    return this.memory.sortedSet(this.#key);
  }
}
