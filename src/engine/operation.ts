import { createHash } from 'node:crypto';
import type { SortedEntry, SortedSet } from './sorted-set.ts';

/** What a command may carry. Numbers are spelled in decimal, since the wire knows strings only. */
export type Argument = string | Buffer;

/** What a script answers: Lua's integers, strings (as bytes), nil and arrays of them. */
export type RawReply = number | Buffer | null | readonly RawReply[];

/** What an in-memory implementation works on: the values and channels of Redis, without Redis. */
export interface Keyspace {
  /** A string; of a sorted set its entries as JSON. */
  get(key: string): Buffer | undefined;
  /** Throws a StoreError when the room is full and may not forget anything. */
  set(key: string, value: Buffer, ttlMs: number): void;
  /** Replaces a value that is there and leaves its TTL alone, as SETRANGE does. */
  rewrite(key: string, value: Buffer): void;
  delete(key: string): boolean;
  /** The sorted set under a key, to be read; undefined where the key holds a string, or nothing. */
  sortedSet(key: string): Pick<SortedSet, 'size' | 'at' | 'has' | 'entries'> | undefined;
  /** Adds or moves a member of a sorted set, as ZADD and PEXPIRE do. Throws a StoreError when the room is full. */
  addSorted(key: string, entry: SortedEntry, ttlMs: number): void;
  /** Removes a member and leaves the TTL alone, as ZREM does; whether it was in the set. An empty set is no key. */
  removeSorted(key: string, member: string): boolean;
  /** Milliseconds that a key has left; undefined when it is not there. */
  ttl(key: string): number | undefined;
  /** Tells whoever listens to a channel, as PUBLISH does. */
  publish(channel: string, message: string): void;
}

/**
 * One atomic operation, told twice: as a Lua script for Redis and as its twin for `memory:`. Both give the same
 * raw reply, leave the same bytes behind, and are read by the same decoder.
 *
 * Every script finds the time in `now` (ms) and `now_us`: the server's, or the one in ARGV[1] when a test injects
 * it. Its own arguments begin at ARGV[2]. `read` is a call that answers with a table where the key holds something
 * of another type, which counts as corrupt; any other error is the script's.
 */
export interface Operation<Args, Reply> {
  readonly name: string;
  readonly lua: string;
  readonly sha: string;
  encode(args: Args): Argument[];
  twin(memory: Keyspace, keys: readonly string[], now: number, args: Args): RawReply;
  decode(reply: RawReply): Reply;
}

const PREAMBLE = `
local now, now_us
if ARGV[1] == '' then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  now_us = time[1] * 1000000 + time[2]
else
  now = tonumber(ARGV[1])
  now_us = now * 1000
end

local function read(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and not string.find(reply.err, 'WRONGTYPE', 1, true) then return redis.call(...) end
  return reply
end
`;

export function defineOperation<Args, Reply>(
  definition: Omit<Operation<Args, Reply>, 'sha'>,
): Operation<Args, Reply> {
  const lua = PREAMBLE + definition.lua;
  return Object.freeze({ ...definition, lua, sha: createHash('sha1').update(lua).digest('hex') });
}
