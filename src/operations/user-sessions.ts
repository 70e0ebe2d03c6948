import type { Keyspace } from './operation.ts';
import type { Found } from './reply.ts';

/*
 * The index of a user's sessions: a sorted set whose scores are the ms until which each may live, so that it can be
 * cleaned without looking at them. A member is when the session was made, in 15 digits, and its handle: members
 * sort by age. The twin keeps it as a JSON array of [score, member], sorted as Redis sorts.
 */

/**
 * Defines `members()`, which forgets what has expired and answers with the rest, and `keep_until_last()`, which gives
 * the index the life of its last session.
 */
export const USER_SESSIONS_LUA: string = `
local KEY, found = KEYS[1], 0
local function members()
  if type(read('ZREMRANGEBYSCORE', KEY, '-inf', now)) == 'table' then
    found = 1
    redis.call('DEL', KEY)
    return {}
  end
  local all = redis.call('ZRANGE', KEY, 0, -1)
  table.sort(all)
  return all
end
local function keep_until_last()
  local last = redis.call('ZRANGE', KEY, -1, -1, 'WITHSCORES')
  if last[2] then redis.call('PEXPIRE', KEY, last[2] - now) end
end
`;

/** The index as its twins see it. */
export class UserSessions {
  readonly found: Found;
  readonly #memory: Keyspace;
  readonly #key: string;
  readonly #now: number;
  readonly #scores: Map<string, number>;

  constructor(memory: Keyspace, key: string, now: number) {
    const value = memory.get(key);
    const entries = value === undefined ? [] : parse(value);
    this.found = entries === undefined ? 'corrupt' : 'fine';
    this.#memory = memory;
    this.#key = key;
    this.#now = now;
    this.#scores = new Map(
      (entries ?? []).filter(([score]) => score > now).map(([score, member]) => [member, score]),
    );
  }

  get members(): readonly string[] {
    return [...this.#scores.keys()].toSorted();
  }

  add(member: string, until: number): void {
    this.#scores.set(member, until);
  }

  remove(member: string): boolean {
    return this.#scores.delete(member);
  }

  save(): void {
    const entries = [...this.#scores].map(([member, score]) => [score, member] as const);
    entries.sort(([a, one], [b, other]) => a - b || (one < other ? -1 : 1));
    const last = entries.at(-1)?.[0];
    if (last === undefined) this.#memory.delete(this.#key);
    else this.#memory.set(this.#key, Buffer.from(JSON.stringify(entries)), last - this.#now);
  }
}

type Entry = readonly [score: number, member: string];

function parse(value: Buffer): readonly Entry[] | undefined {
  try {
    const entries: unknown = JSON.parse(value.toString());
    return Array.isArray(entries) ? (entries as readonly Entry[]) : undefined;
  } catch {
    return undefined;
  }
}
