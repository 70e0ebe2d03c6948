import type { Keyspace } from './operation.ts';
import { packSortedSet, parseSortedSet, type SortedEntry } from './sorted-set.ts';
import { TURN_MS, WAITING_LINE_LUA, type WaitingLine } from './waiting-line.ts';

/*
 * Who runs at once: a sorted set of tokens whose scores are the ms until which each has its slot, so that a process that
 * died gives its own back. A slot that is given to who waits is kept for a turn, until it asks.
 */

/**
 * Defines `slots_open()`, which forgets what has ended; `slots_take(token, ms)`; and `slots_give(limit, own)`, which
 * gives what is free to those who wait, first come first served, and answers whether `own` was among them. KEYS[1] are
 * the slots, KEYS[2] is the line; CHANNELS must be defined before.
 */
export const SLOTS_LUA: string = `${WAITING_LINE_LUA}
local SLOTS, LINE, found = KEYS[1], KEYS[2], 0
local function slots_open()
  if type(read('ZREMRANGEBYSCORE', SLOTS, '-inf', now)) == 'table' then
    found = 1
    redis.call('DEL', SLOTS)
  end
  line_open(LINE)
  line_prune(LINE)
end

local function slots_take(token, ms)
  redis.call('ZADD', SLOTS, string.format('%.0f', now + ms), token)
  local last = redis.call('ZRANGE', SLOTS, -1, -1, 'WITHSCORES')
  redis.call('PEXPIRE', SLOTS, string.format('%.0f', last[2] - now))
end

local function slots_give(limit, own)
  while redis.call('ZCARD', SLOTS) < limit do
    local first = line_first(LINE)
    if not first then return false end
    if first.token == own then return true end
    slots_take(first.token, ${TURN_MS})
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
  #entries: readonly SortedEntry[];

  constructor(memory: Keyspace, key: string, now: number, line: WaitingLine) {
    const entries = parseSortedSet(memory.get(key));
    this.isCorrupt = entries === undefined;
    this.#memory = memory;
    this.#key = key;
    this.#now = now;
    this.#line = line;
    this.#entries = entries ?? [];
    line.prune();
    const living = this.#entries.filter(([until]) => until > now);
    if (entries === undefined || living.length < this.#entries.length)
      this.#store(living, memory.ttl(key) ?? 0);
  }

  get count(): number {
    return this.#entries.length;
  }

  /** Until the first of them ends; -1 when there is none. */
  get leftMs(): number {
    const [first] = this.#entries;
    return first === undefined ? -1 : first[0] - this.#now;
  }

  has(token: string): boolean {
    return this.#entries.some(([, each]) => each === token);
  }

  take(token: string, ms: number): void {
    const others = this.#entries.filter(([, each]) => each !== token);
    const all = parseSortedSet(packSortedSet([...others, [this.#now + ms, token]])) ?? [];
    this.#store(all, (all.at(-1)?.[0] ?? this.#now) - this.#now);
  }

  free(token: string): boolean {
    const others = this.#entries.filter(([, each]) => each !== token);
    if (others.length === this.#entries.length) return false;
    this.#store(others, this.#memory.ttl(this.#key) ?? 0);
    return true;
  }

  /** Gives what is free to those who wait; whether `own` was among them. */
  give(limit: number, own: string): boolean {
    while (this.count < limit) {
      const first = this.#line.first();
      if (first === undefined) return false;
      if (first.token === own) return true;
      this.take(first.token, TURN_MS);
      this.#line.call(first);
    }
    return false;
  }

  #store(entries: readonly SortedEntry[], ttlMs: number): void {
    this.#entries = entries;
    if (entries.length === 0) this.#memory.delete(this.#key);
    else this.#memory.set(this.#key, packSortedSet(entries), ttlMs);
  }
}
