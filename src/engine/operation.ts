import { createHash } from 'node:crypto';
import type { Collection } from './collection.ts';
import type { SortedEntry, SortedSet } from './sorted-set.ts';
import { STORED_INTEGER_LUA } from './stored-integer.ts';

/** An argument of a command. A number is passed as a decimal string. */
export type Argument = string | Buffer;

/** The reply of a script: Lua's integers, strings (as bytes), nil, and arrays of these. */
export type RawReply = number | Buffer | null | readonly RawReply[];

/** The commands that in-memory implementations use in place of Redis. */
export interface Keyspace {
  /** Returns a key's string, or the content of its collection as JSON; undefined for a key that does not exist. */
  get(key: string): Buffer | undefined;
  /** Throws a StoreError when the feature's space is full and nothing may be evicted. */
  set(key: string, value: Buffer, ttlMs: number): void;
  /** Replaces an existing value and keeps its TTL, as SETRANGE does. */
  rewrite(key: string, value: Buffer): void;
  delete(key: string): boolean;
  /** The sorted set under a key, read-only; undefined if the key holds a string or nothing. */
  sortedSet(
    key: string,
  ): Pick<SortedSet, 'size' | 'at' | 'has' | 'score' | 'entries' | 'countTo' | 'countToScore'> | undefined;
  /** Adds or moves a member and sets the TTL, as ZADD and PEXPIRE do. Throws as `set` does. */
  addSorted(key: string, entry: SortedEntry, ttlMs: number): void;
  /** Removes a member, keeps the TTL and deletes an empty set, as ZREM does. Returns whether the set had the member. */
  removeSorted(key: string, member: string): boolean;
  /** The collection under a key, read-only; undefined if the key holds another type or nothing. */
  collection<Type extends Collection>(key: string, type: new () => Type): Readonly<Type> | undefined;
  /**
   * Changes the collection under a key, which is created if the key holds another type or nothing. A collection that is
   * empty afterwards is deleted. Throws as `set` does, before any change.
   */
  change<Type extends Collection, Result>(
    key: string,
    type: new () => Type,
    edit: CollectionEdit<Type, Result>,
  ): Result;
  /** Milliseconds until a key expires; undefined for a key that does not exist. */
  ttl(key: string): number | undefined;
  publish(channel: string, message: string): void;
}

export interface CollectionEdit<Type, Result = void> {
  /** The most bytes by which the collection grows. */
  readonly growth: number;
  /** The new TTL; undefined keeps the TTL, or sets none for a new collection. */
  readonly ttlMs?: number | undefined;
  apply(collection: Type): Result;
}

/**
 * One atomic operation, implemented twice: as a Lua script for Redis, and in memory for `memory:` and the in-process
 * fallback. Both return the same raw reply and store the same bytes, and one decoder reads both replies.
 *
 * A script has the time in `now` (ms) or `now_us`: the server's time, or the time that a test passes in ARGV[1]. Its own
 * arguments begin at ARGV[2]. `read(...)` calls Redis, and returns an error table if the key has another type than
 * expected, which the script treats as corrupt; other errors are thrown. `stored_integer(digits)` parses a stored number.
 */
export interface Operation<Args, Reply> {
  readonly name: string;
  readonly lua: string;
  readonly sha: string;
  encode(args: Args): Argument[];
  runInMemory(memory: Keyspace, keys: readonly string[], now: number, args: Args): RawReply;
  decode(reply: RawReply): Reply;
}

/* Parts that most scripts need. A script contains only those whose variables it uses: TIME costs a microsecond. */

const NOW = /* lua */ `local now
if ARGV[1] == '' then
  local time = redis.call('TIME')
  now = time[1] * 1000 + time[2] / 1000
  now = now - now % 1
else
  now = ARGV[1] + 0
end
`;

const NOW_US = /* lua */ `local now_us
if ARGV[1] == '' then
  local time = redis.call('TIME')
  now_us = time[1] * 1000000 + time[2]
else
  now_us = ARGV[1] * 1000
end
local now = math.floor(now_us / 1000)
`;

const READ = /* lua */ `local function read(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err and not string.find(reply.err, 'WRONGTYPE', 1, true) then
    return redis.call(...)
  end
  return reply
end
`;

export function defineOperation<Args, Reply>(
  definition: Omit<Operation<Args, Reply>, 'sha'>,
): Operation<Args, Reply> {
  const uses = (name: string) => new RegExp(`\\b${name}\\b`).test(definition.lua);
  const time = uses('now_us') ? NOW_US : uses('now') ? NOW : '';
  const helpers = (uses('read') ? READ : '') + (uses('stored_integer') ? STORED_INTEGER_LUA : '');
  const lua = time + helpers + definition.lua;
  return Object.freeze({ ...definition, lua, sha: createHash('sha1').update(lua).digest('hex') });
}
