import type { Keyspace } from '../../engine/operation.ts';
import type { StoredFormat } from '../../engine/reply.ts';
import { packSortedSet, parseSortedSet } from '../../engine/sorted-set.ts';

/*
 * The index of a user's sessions: a sorted set. The score of a session is the ms until which the session may live, so
 * that expired members can be removed without reading the sessions. A member is the time of creation in 15 digits and
 * the handle, so that members sort by age.
 */

/**
 * Defines `members()`, which removes expired members and returns the others, and `keep_until_last()`, which sets the
 * TTL of the index to the expiry of its last session.
 */
export const USER_SESSIONS_LUA: string = /* lua */ `
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

/** The index in the in-memory implementations. */
export class UserSessions {
  readonly found: StoredFormat;
  readonly #memory: Keyspace;
  readonly #key: string;
  readonly #now: number;
  readonly #scores: Map<string, number>;

  constructor(memory: Keyspace, key: string, now: number) {
    const entries = parseSortedSet(memory.get(key));
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
    if (entries.length === 0) {
      this.#memory.delete(this.#key);
      return;
    }
    const last = Math.max(...this.#scores.values());
    this.#memory.set(this.#key, packSortedSet(entries), last - this.#now);
  }
}
