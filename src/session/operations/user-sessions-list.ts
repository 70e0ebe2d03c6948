import { defineOperation, type Operation } from '../../engine/operation.ts';
import { arrayOf, type StoredFormat, storedFormatAt, storedFormatCode, textsAt } from '../../engine/reply.ts';
import { USER_SESSIONS_LUA, UserSessions } from './user-sessions.ts';

export interface UserSessionsListReply {
  readonly found: StoredFormat;
  /** The members that are left and have not expired, oldest first. */
  readonly members: readonly string[];
}

/*
 * Removes members from the index of a user and returns the others.
 *
 * KEYS   1 the index
 * ARGV   1 time, then the members to remove
 * reply  {found, members}
 */
const lua = /* lua */ `${USER_SESSIONS_LUA}
for i = 2, #ARGV do read('ZREM', KEY, ARGV[i]) end
local left = members()
keep_until_last()
return { found, left }
`;

export const userSessionsList: Operation<{ readonly forget: readonly string[] }, UserSessionsListReply> =
  defineOperation({
    name: 'user-sessions-list',
    lua,
    encode: ({ forget }) => [...forget],
    runInMemory(memory, [key = ''], now, { forget }) {
      const index = new UserSessions(memory, key, now);
      for (const member of forget) index.remove(member);
      index.save();
      return [storedFormatCode(index.found), index.members.map((each) => Buffer.from(each))];
    },
    decode(reply) {
      const fields = arrayOf(reply);
      return { found: storedFormatAt(fields, 0), members: textsAt(fields, 1) };
    },
  });
