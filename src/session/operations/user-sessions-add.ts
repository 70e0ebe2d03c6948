import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  integerAt,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
  textsAt,
} from '../../engine/reply.ts';
import { USER_SESSIONS_LUA, UserSessions } from './user-sessions.ts';

export interface UserSessionsAddArgs {
  readonly member: string;
  /** The ms until which the index must list the session. */
  readonly until: number;
  /** The most sessions of the user; 0 for unlimited. A session that is already in the index is always prolonged. */
  readonly limit: number;
  /** At the limit, `evict-oldest` removes the oldest sessions; `reject` does not add the new session. */
  readonly onExceed: 'evict-oldest' | 'reject';
  /** The member that the new session replaces, which is not counted and which the caller ends; empty for none. */
  readonly replaces: string;
}

export interface UserSessionsAddReply {
  readonly found: StoredFormat;
  readonly added: boolean;
  /** The members that were removed; if the session was not added, all other members. */
  readonly others: readonly string[];
}

/*
 * Adds a session to the index of its user, or prolongs a session that is already in the index.
 *
 * KEYS   1 the index
 * ARGV   1 time, 2 member, 3 until ms, 4 limit, 5 'evict-oldest' or 'reject', 6 the member that it replaces
 * reply  {found, added 0 or 1, other members}
 */
const lua = /* lua */ `${USER_SESSIONS_LUA}
local others, limit, evicted = {}, tonumber(ARGV[4]), {}
for _, other in ipairs(members()) do
  if other ~= ARGV[6] then others[#others + 1] = other end
end
if limit > 0 and not redis.call('ZSCORE', KEY, ARGV[2]) then
  local surplus = #others + 1 - limit
  if surplus > 0 and ARGV[5] == 'reject' then
    keep_until_last()
    return { found, 0, others }
  end
  for i = 1, surplus do
    evicted[i] = others[i]
    redis.call('ZREM', KEY, others[i])
  end
end
redis.call('ZADD', KEY, ARGV[3], ARGV[2])
keep_until_last()
return { found, 1, evicted }
`;

export const userSessionsAdd: Operation<UserSessionsAddArgs, UserSessionsAddReply> = defineOperation({
  name: 'user-sessions-add',
  lua,
  encode: ({ member, until, limit, onExceed, replaces }) => [
    member,
    String(until),
    String(limit),
    onExceed,
    replaces,
  ],
  runInMemory(memory, [key = ''], now, { member, until, limit, onExceed, replaces }) {
    const index = new UserSessions(memory, key, now);
    const others = index.members.filter((other) => other !== replaces);
    const surplus = limit > 0 && !index.members.includes(member) ? others.length + 1 - limit : 0;
    const isRejected = surplus > 0 && onExceed === 'reject';
    const listed = isRejected ? others : others.slice(0, Math.max(0, surplus));
    if (!isRejected) {
      for (const old of listed) index.remove(old);
      index.add(member, until);
    }
    index.save();
    return [storedFormatCode(index.found), isRejected ? 0 : 1, listed.map((each) => Buffer.from(each))];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    return {
      found: storedFormatAt(fields, 0),
      added: integerAt(fields, 1) === 1,
      others: textsAt(fields, 2),
    };
  },
});
