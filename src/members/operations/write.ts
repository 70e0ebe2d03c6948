import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  integerAt,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import { MEMBERS_LUA, StoredMembers } from './stored-members.ts';

export interface MembersRemoveArgs {
  readonly member: string;
}

export interface MembersAddArgs extends MembersRemoveArgs {
  /** Milliseconds until the member expires; null for never. */
  readonly ttl: number | null;
}

export interface MembersReply {
  readonly found: StoredFormat;
  /** Whether the set had the member, before a write. */
  readonly had: boolean;
}

/** Defines `members_has(member)`: whether the set has the member. `members_open()` must have been called. */
const HAS_LUA = /* lua */ `
local function members_has(member)
  local expiry = redis.call('ZSCORE', EXPIRIES, member)
  return redis.call('ZSCORE', MEMBERS, member) and not (expiry and tonumber(expiry) <= now) and 1 or 0
end
`;

/*
 * Adds a member, or replaces its expiry.
 *
 * KEYS   1 the members, 2 the expiries
 * ARGV   1 time, 2 member, 3 ms until it expires or 0 for never
 * reply  {found, 1 if the set had the member, else 0}
 */
const addLua = /* lua */ `${MEMBERS_LUA}${HAS_LUA}
members_open()
local had = members_has(ARGV[2])
if ARGV[3] == '0' then
  redis.call('ZREM', EXPIRIES, ARGV[2])
else
  redis.call('ZADD', EXPIRIES, string.format('%.0f', now + ARGV[3]), ARGV[2])
end
redis.call('ZADD', MEMBERS, 0, ARGV[2])
members_keep()
return { found, had }
`;

export const membersAdd: Operation<MembersAddArgs, MembersReply> = defineOperation({
  name: 'members-add',
  lua: addLua,
  encode: ({ member, ttl }) => [member, String(ttl ?? 0)],
  runInMemory(memory, keys, now, { member, ttl }) {
    const stored = new StoredMembers(memory, keys, now).open();
    const had = stored.has(member);
    stored.add(member, ttl);
    return [storedFormatCode(stored.found), had ? 1 : 0];
  },
  decode: membersReplyOf,
});

/*
 * Removes a member.
 *
 * KEYS   1 the members, 2 the expiries
 * ARGV   1 time, 2 member
 * reply  {found, 1 if the set had the member, else 0}
 */
const removeLua = /* lua */ `${MEMBERS_LUA}${HAS_LUA}
members_open()
local had = members_has(ARGV[2])
redis.call('ZREM', MEMBERS, ARGV[2])
redis.call('ZREM', EXPIRIES, ARGV[2])
members_keep()
return { found, had }
`;

export const membersRemove: Operation<MembersRemoveArgs, MembersReply> = defineOperation({
  name: 'members-remove',
  lua: removeLua,
  encode: ({ member }) => [member],
  runInMemory(memory, keys, now, { member }) {
    const stored = new StoredMembers(memory, keys, now).open();
    const had = stored.has(member);
    stored.remove(member);
    return [storedFormatCode(stored.found), had ? 1 : 0];
  },
  decode: membersReplyOf,
});

export function membersReplyOf(reply: Parameters<typeof arrayOf>[0]): MembersReply {
  const fields = arrayOf(reply);
  return { found: storedFormatAt(fields, 0), had: integerAt(fields, 1) === 1 };
}
