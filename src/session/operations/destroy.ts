import { defineOperation, type Operation } from '../../engine/operation.ts';
import { integerAt, storedFormatCode } from '../../engine/reply.ts';
import { fieldsOf, ownerAt, SESSION_LUA, type SessionRecord, unpackSession } from './format.ts';

export interface SessionDestroyReply extends Pick<SessionRecord, 'created' | 'owner'> {
  /** Whether the session was alive. */
  readonly existed: boolean;
}

/*
 * Destroys a session. A corrupt value is deleted as well, but not a value of a newer format.
 *
 * KEYS   1 the session
 * ARGV   1 time
 * reply  {found, existed 0 or 1, created ms, owner}
 */
const lua = /* lua */ `${SESSION_LUA}
local found, raw = load()
if found == 2 then return { 2, 0, 0, '' } end
redis.call('DEL', KEYS[1])
if not raw then return { found, 0, 0, '' } end
local created, seen, idle, absolute = struct.unpack('>I6I6I6I6', raw, 3)
if expiry_of(seen, idle, absolute) <= now then return { 0, 0, 0, '' } end
return { 0, 1, created, owner_of(raw) }
`;

export const sessionDestroy: Operation<undefined, SessionDestroyReply> = defineOperation({
  name: 'session-destroy',
  lua,
  encode: () => [],
  runInMemory(memory, [key = ''], now) {
    const { found, record } = unpackSession(memory.get(key), now);
    if (found !== 'newer') memory.delete(key);
    if (record === undefined) return [storedFormatCode(found), 0, 0, Buffer.alloc(0)];
    return [0, 1, record.created, Buffer.from(record.owner, 'latin1')];
  },
  decode(reply) {
    const fields = fieldsOf(reply);
    return {
      existed: integerAt(fields, 1) === 1,
      created: integerAt(fields, 2),
      owner: ownerAt(fields, 3),
    };
  },
});
