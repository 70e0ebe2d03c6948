import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  bytesAt,
  integerAt,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
  textsAt,
} from '../../engine/reply.ts';
import { type MembersPage, StoredMembers } from './stored-members.ts';
import { type MembersRemoveArgs, type MembersReply, membersReplyOf } from './write.ts';

/*
 * Reads change nothing, so that they also work while Redis accepts no writes. A value of another type counts as absent.
 */

/**
 * Defines `count`, the number of members with those that have expired, `expiring`, the number of those with an expiry,
 * and `found`.
 */
const READ_MEMBERS_LUA = /* lua */ `
local MEMBERS, EXPIRIES, found = KEYS[1], KEYS[2], 0
local count, expiring = read('ZCARD', MEMBERS), read('ZCARD', EXPIRIES)
if type(count) == 'table' then found, count = 1, 0 end
if type(expiring) == 'table' then found, expiring = 1, 0 end
`;

/*
 * KEYS   1 the members, 2 the expiries
 * ARGV   1 time, 2 member
 * reply  {found, 1 if the set has the member, else 0}
 */
const hasLua = /* lua */ `${READ_MEMBERS_LUA}
if count == 0 or not redis.call('ZSCORE', MEMBERS, ARGV[2]) then return { found, 0 } end
local expiry = expiring > 0 and redis.call('ZSCORE', EXPIRIES, ARGV[2])
return { found, expiry and tonumber(expiry) <= now and 0 or 1 }
`;

export const membersHas: Operation<MembersRemoveArgs, MembersReply> = defineOperation({
  name: 'members-has',
  lua: hasLua,
  encode: ({ member }) => [member],
  runInMemory(memory, keys, now, { member }) {
    const stored = new StoredMembers(memory, keys, now);
    return [storedFormatCode(stored.found), stored.has(member) ? 1 : 0];
  },
  decode: membersReplyOf,
});

export interface MembersSizeReply {
  readonly found: StoredFormat;
  readonly size: number;
}

/*
 * KEYS   1 the members, 2 the expiries
 * ARGV   1 time
 * reply  {found, number of members that have not expired}
 */
const sizeLua = /* lua */ `${READ_MEMBERS_LUA}
if expiring > 0 then count = math.max(0, count - redis.call('ZCOUNT', EXPIRIES, '-inf', now)) end
return { found, count }
`;

export const membersSize: Operation<undefined, MembersSizeReply> = defineOperation({
  name: 'members-size',
  lua: sizeLua,
  encode: () => [],
  runInMemory(memory, keys, now) {
    const stored = new StoredMembers(memory, keys, now);
    return [storedFormatCode(stored.found), stored.size];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    return { found: storedFormatAt(fields, 0), size: integerAt(fields, 1) };
  },
});

export interface MembersListArgs {
  /** The member to continue after; empty for the beginning. */
  readonly after: string;
  readonly limit: number;
}

export interface MembersListReply extends MembersPage {
  readonly found: StoredFormat;
}

/** The most members that one page visits: a script must not block the server to skip expired members. */
const MOST_SEEN = 10_000;

/*
 * Reads a page of members in the order of their bytes.
 *
 * KEYS   1 the members, 2 the expiries
 * ARGV   1 time, 2 member to continue after or '', 3 most members of the page
 * reply  {found, members, member to continue after or ''}
 */
const listLua = /* lua */ `${READ_MEMBERS_LUA}
local limit, min, members, seen, page = tonumber(ARGV[3]), '-', {}, 0, {}
if ARGV[2] ~= '' then min = '(' .. ARGV[2] end
if count == 0 then return { found, {}, '' } end
repeat
  page = redis.call('ZRANGEBYLEX', MEMBERS, min, '+', 'LIMIT', 0, limit + 1)
  local expiries = expiring > 0 and #page > 0 and redis.call('ZMSCORE', EXPIRIES, unpack(page)) or {}
  for index, member in ipairs(page) do
    if not expiries[index] or tonumber(expiries[index]) > now then
      if #members == limit then return { found, members, members[limit] } end
      members[#members + 1] = member
    end
  end
  seen = seen + #page
  min = '(' .. (page[#page] or '')
until #page <= limit or seen >= ${MOST_SEEN}
return { found, members, #page > limit and page[#page] or '' }
`;

export const membersList: Operation<MembersListArgs, MembersListReply> = defineOperation({
  name: 'members-list',
  lua: listLua,
  encode: ({ after, limit }) => [after, String(limit)],
  runInMemory(memory, keys, now, { after, limit }) {
    const stored = new StoredMembers(memory, keys, now);
    const { members, next } = stored.page(after, { limit, mostSeen: MOST_SEEN });
    return [storedFormatCode(stored.found), members.map((each) => Buffer.from(each)), Buffer.from(next)];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    return {
      found: storedFormatAt(fields, 0),
      members: textsAt(fields, 1),
      next: bytesAt(fields, 2)?.toString() ?? '',
    };
  },
});
