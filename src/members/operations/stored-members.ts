import type { Keyspace } from '../../engine/operation.ts';
import type { StoredFormat } from '../../engine/reply.ts';
import { SortedSet } from '../../engine/sorted-set.ts';

/*
 * The members are a sorted set in which all scores are 0, so that Redis orders it by the bytes of the members. Members
 * that expire are also in a second one, whose scores are the milliseconds in which they do. An expired member counts as
 * absent, and is removed by one of the next writes. The TTL of both keys ends with the last member; if a member never
 * expires, neither key has a TTL, since a member without its expiry would be one that never expires. A member is stored
 * as `storedText` returns it.
 */

/** The most expired members that one write removes: a script must not block the server. */
const MAX_TRIMMED = 100;

/**
 * Defines `members_open()`, which deletes values of another type and removes expired members, and `members_keep()`, which
 * sets the TTL of both keys. KEYS[1] is the members, KEYS[2] the expiries.
 */
export const MEMBERS_LUA: string = /* lua */ `
local MEMBERS, EXPIRIES, found = KEYS[1], KEYS[2], 0
local function members_open()
  local count, expiring = read('ZCARD', MEMBERS), read('ZCARD', EXPIRIES)
  if type(count) == 'table' then
    found, count = 1, 0
    redis.call('DEL', MEMBERS)
  end
  if type(expiring) == 'table' then found = 1 end
  if expiring == 0 then return end
  if found == 1 or count == 0 then
    redis.call('DEL', EXPIRIES)
    return
  end
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', EXPIRIES, '-inf', now, 'LIMIT', 0, ${MAX_TRIMMED})) do
    redis.call('ZREM', MEMBERS, member)
    redis.call('ZREM', EXPIRIES, member)
  end
end
local function members_keep()
  local last = redis.call('ZRANGE', EXPIRIES, -1, -1, 'WITHSCORES')
  local do_all_expire = last[2] and redis.call('ZCARD', EXPIRIES) == redis.call('ZCARD', MEMBERS)
  for _, key in ipairs(KEYS) do
    if do_all_expire then redis.call('PEXPIRE', key, last[2] - now) else redis.call('PERSIST', key) end
  end
end
`;

/** The members in the in-memory implementations. */
export class StoredMembers {
  /** Whether one of the keys holds a value of another type. */
  readonly isCorrupt: boolean;
  readonly #memory: Keyspace;
  readonly #key: string;
  readonly #expiriesKey: string;
  readonly #now: number;

  constructor(memory: Keyspace, [key = '', expiriesKey = '']: readonly string[], now: number) {
    this.#memory = memory;
    this.#key = key;
    this.#expiriesKey = expiriesKey;
    this.#now = now;
    this.isCorrupt = this.#isForeign(key) || this.#isForeign(expiriesKey);
  }

  get found(): StoredFormat {
    return this.isCorrupt ? 'corrupt' : 'fine';
  }

  get size(): number {
    const all = this.#members?.size ?? 0;
    return Math.max(0, all - (this.#expiries?.countToScore(this.#now) ?? 0));
  }

  has(member: string): boolean {
    return this.#members?.has(member) === true && this.#isLive(member);
  }

  /** Deletes values of another type, and removes expired members. */
  open(): this {
    const isLost = this.#members === undefined;
    if (this.#isForeign(this.#key)) this.#memory.delete(this.#key);
    if (isLost || this.isCorrupt) this.#memory.delete(this.#expiriesKey);
    for (let trimmed = 0; trimmed < MAX_TRIMMED; trimmed++) {
      const [expiry, member] = this.#expiries?.at(0) ?? [];
      if (expiry === undefined || member === undefined || expiry > this.#now) break;
      this.#remove(member);
    }
    return this;
  }

  /** Adds a member, or replaces its expiry. */
  add(member: string, ttl: number | null): void {
    const memory = this.#memory;
    if (ttl === null) memory.removeSorted(this.#expiriesKey, member);
    else memory.addSorted(this.#expiriesKey, [this.#now + ttl, member], ttl);
    try {
      memory.addSorted(this.#key, [0, member], Number.POSITIVE_INFINITY);
    } catch (error) {
      memory.removeSorted(this.#expiriesKey, member);
      throw error;
    }
    this.#keep();
  }

  remove(member: string): void {
    this.#remove(member);
    this.#keep();
  }

  /** Up to `limit` members after this one, and the member to continue after, or ''. */
  page(
    after: string,
    { limit, mostSeen }: { readonly limit: number; readonly mostSeen: number },
  ): MembersPage {
    const set = this.#members;
    const members: string[] = [];
    let index = after === '' ? 0 : (set?.countTo([0, after]) ?? 0);
    let seen = 0;
    let page: readonly string[];
    do {
      page = (set?.entries() ?? []).slice(index, index + limit + 1).map(([, member]) => member);
      for (const member of page.filter((each) => this.#isLive(each))) {
        if (members.length === limit) return { members, next: members.at(-1) ?? '' };
        members.push(member);
      }
      index += page.length;
      seen += page.length;
    } while (page.length > limit && seen < mostSeen);
    return { members, next: page.length > limit ? (page.at(-1) ?? '') : '' };
  }

  #keep(): void {
    const [last] = this.#expiries?.at(-1) ?? [];
    const doAllExpire = last !== undefined && this.#expiries?.size === this.#members?.size;
    const ttlMs = doAllExpire ? last - this.#now : Number.POSITIVE_INFINITY;
    for (const key of [this.#key, this.#expiriesKey]) this.#touch(key, ttlMs);
  }

  #touch(key: string, ttlMs: number): void {
    if (this.#memory.sortedSet(key) === undefined) return;
    this.#memory.change(key, SortedSet, { growth: 0, ttlMs, apply: () => undefined });
  }

  #remove(member: string): void {
    this.#memory.removeSorted(this.#key, member);
    this.#memory.removeSorted(this.#expiriesKey, member);
  }

  #isLive(member: string): boolean {
    return (this.#expiries?.score(member) ?? Number.POSITIVE_INFINITY) > this.#now;
  }

  #isForeign(key: string): boolean {
    return this.#memory.sortedSet(key) === undefined && this.#memory.get(key) !== undefined;
  }

  get #members(): ReturnType<Keyspace['sortedSet']> {
    return this.#memory.sortedSet(this.#key);
  }

  get #expiries(): ReturnType<Keyspace['sortedSet']> {
    return this.#memory.sortedSet(this.#expiriesKey);
  }
}

export interface MembersPage {
  readonly members: readonly string[];
  /** The member to continue after; empty at the end. */
  readonly next: string;
}
