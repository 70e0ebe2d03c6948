import type { Keyspace } from '../engine/operation.ts';

/*
 * Who waits for something, first come first: a sorted set whose scores are the microseconds in which each came, and
 * whose members are '<token>:<process>:<ms that it waits>', and ':<limit>' where there are several of what is waited
 * for. Whoever has waited long enough is passed over, so one that gave up without a word costs nothing.
 *
 * A process is called on a channel of its own: 'now:<token>' to ask at once, 'soon:<token>' to ask when a turn that was
 * given to another process is over, in case that one is dead; 'lost:<token>' when what it holds was taken away.
 */

/** How long a turn is kept for who was called. It must only be confirmed, which takes one command. */
export const TURN_MS = 1_000;

/** How long what deadlines in a value have ended may still be seen. */
export const GRACE_MS = 60_000;

/** A turn that nobody took is seen for longer than it lasts: it tells that a process may be dead. */
export const TURN_TTL_MS: number = TURN_MS + GRACE_MS;

export interface Waiter {
  readonly token: string;
  readonly process: string;
  readonly waitMs: number;
  /** How many may have at once what it waits for, as it knew when it came. */
  readonly limit?: number | undefined;
}

export function memberOf({ token, process, waitMs, limit }: Waiter): string {
  return `${token}:${process}:${waitMs}${limit === undefined ? '' : `:${limit}`}`;
}

/**
 * Defines `line_open(key)`, `line_join(key, member)`, `line_leave(key, member)`, `line_drop(key, process)`,
 * `line_prune(key)`, which takes those out of its beginning who gave up, `line_first(key)`, which takes the first who
 * still waits out and answers it, and `line_call(key, waiter)`, which calls it. Channels begin with `CHANNELS`.
 */
export const WAITING_LINE_LUA: string = `
local function line_parse(member)
  local token, process, wait, limit = string.match(member or '', '^([%w_-]+):([%w_-]+):(%d+):?(%d*)$')
  return token and { member = member, token = token, process = process, wait = tonumber(wait), limit = tonumber(limit) }
end

local function line_open(key)
  if type(read('ZCARD', key)) == 'table' then redis.call('DEL', key) end
end

local function line_join(key, member)
  if redis.call('ZSCORE', key, member) then return end
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
  redis.call('ZADD', key, string.format('%.0f', math.max((tonumber(last[2]) or 0) + 1, now_us)), member)
  redis.call('PEXPIRE', key, string.format('%.0f', math.max(redis.call('PTTL', key), line_parse(member).wait + ${GRACE_MS})))
end

local function line_leave(key, member) redis.call('ZREM', key, member) end

local function line_prune(key)
  while true do
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if not first[1] then return nil end
    local waiter = line_parse(first[1])
    if waiter and math.floor(first[2] / 1000) + waiter.wait > now then return waiter end
    redis.call('ZREM', key, first[1])
  end
end

local function line_first(key)
  local waiter = line_prune(key)
  if waiter then redis.call('ZREM', key, waiter.member) end
  return waiter
end

local function line_tell(word, waiter)
  if waiter.process ~= '' then redis.pcall('PUBLISH', CHANNELS .. waiter.process, word .. ':' .. waiter.token) end
end

local function line_call(key, waiter)
  line_tell('now', waiter)
  for _, place in ipairs({ 0, -1 }) do
    local other = line_parse(redis.call('ZRANGE', key, place, place)[1])
    if other and other.process ~= waiter.process then return line_tell('soon', other) end
  end
end

local function line_drop(key, process)
  for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local waiter = line_parse(member)
    if waiter and waiter.process == process then
      redis.call('ZREM', key, member)
      line_tell('now', waiter)
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

/** The line as the twins see it. */
export class WaitingLine {
  readonly #memory: Keyspace;
  readonly #key: string;
  readonly #now: number;
  readonly #channels: string;

  constructor(memory: Keyspace, key: string, now: number, channels: string) {
    this.#memory = memory;
    this.#key = key;
    this.#now = now;
    this.#channels = channels;
    // Something of another type.
    if (this.#set === undefined) memory.delete(key);
  }

  join(member: string): void {
    if (this.has(member)) return;
    const score = Math.max((this.#set?.at(-1)?.[0] ?? 0) + 1, this.#now * 1_000);
    const ttl = Math.max(this.#memory.ttl(this.#key) ?? 0, (parse(member)?.waitMs ?? 0) + GRACE_MS);
    this.#memory.addSorted(this.#key, [score, member], ttl);
  }

  leave(member: string): void {
    this.#memory.removeSorted(this.#key, member);
  }

  has(member: string): boolean {
    return this.#set?.has(member) ?? false;
  }

  /** What who came last knew of the limit. */
  get limit(): number | undefined {
    return parse(this.#set?.at(-1)?.[1])?.limit;
  }

  /** How many are in it, with those who may have given up. */
  get size(): number {
    return this.#set?.size ?? 0;
  }

  /** Takes those out of its beginning who gave up; answers with the first who has not. */
  prune(): Waiter | undefined {
    for (let first = this.#set?.at(0); first !== undefined; first = this.#set?.at(0)) {
      const [score, member] = first;
      const waiter = parse(member);
      if (waiter !== undefined && Math.floor(score / 1_000) + waiter.waitMs > this.#now) return waiter;
      this.leave(member);
    }
    return undefined;
  }

  /** Takes the first who still waits out. */
  first(): Waiter | undefined {
    const waiter = this.prune();
    if (waiter !== undefined) this.leave(memberOf(waiter));
    return waiter;
  }

  /** How many still wait. */
  get length(): number {
    const entries = this.#set?.entries() ?? [];
    return entries.filter(
      ([score, member]) => Math.floor(score / 1_000) + (parse(member)?.waitMs ?? 0) > this.#now,
    ).length;
  }

  call(waiter: Waiter): void {
    this.tell('now', waiter);
    const others = [parse(this.#set?.at(0)?.[1]), parse(this.#set?.at(-1)?.[1])];
    const other = others.find((each) => each !== undefined && each.process !== waiter.process);
    if (other !== undefined) this.tell('soon', other);
  }

  drop(process: string): void {
    // A copy: it is changed meanwhile.
    for (const [, member] of [...(this.#set?.entries() ?? [])]) {
      const waiter = parse(member);
      if (waiter?.process !== process) continue;
      this.leave(member);
      this.tell('now', waiter);
    }
  }

  tell(word: 'now' | 'soon' | 'lost', { token, process }: Pick<Waiter, 'token' | 'process'>): void {
    if (process !== '') this.#memory.publish(`${this.#channels}${process}`, `${word}:${token}`);
  }

  get #set(): ReturnType<Keyspace['sortedSet']> {
    return this.#memory.sortedSet(this.#key);
  }
}
