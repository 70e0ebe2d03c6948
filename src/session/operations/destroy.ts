import { defineOperation, type Operation } from '../../engine/operation.ts';
import { integerAt, storedFormatCode } from '../../engine/reply.ts';
import { fieldsOf, ownerAt, SESSION_LUA, type SessionRecord, unpackSession } from './format.ts';

export interface SessionDestroyArgs {
  /** The only owner whose session is destroyed; default: any, and none. */
  readonly owner?: string | undefined;
}

export interface SessionDestroyReply extends Pick<SessionRecord, 'created' | 'owner'> {
  /** Whether the session was alive, and is destroyed. */
  readonly existed: boolean;
}

/*
 * Destroys a session, unless it belongs to another user than expected. A corrupt value is deleted as well, but not a
 * value of a newer format.
 *
 * KEYS   1 the session
 * ARGV   1 time, 2 the expected owner; empty for any
 * reply  {found, existed 0 or 1, created ms, owner}
 */
const lua = /* lua */ `${SESSION_LUA}
local found, raw = load()
if found == 2 then return { 2, 0, 0, '' } end
local alive, created, seen, idle, absolute = false
if raw then
  created, seen, idle, absolute = struct.unpack('>I6I6I6I6', raw, 3)
  alive = expiry_of(seen, idle, absolute) > now
end
if alive and ARGV[2] ~= '' and ARGV[2] ~= owner_of(raw) then return { 0, 0, 0, '' } end
redis.call('DEL', KEYS[1])
if not alive then return { found, 0, 0, '' } end
return { 0, 1, created, owner_of(raw) }
`;

export const sessionDestroy: Operation<SessionDestroyArgs, SessionDestroyReply> = defineOperation({
  name: 'session-destroy',
  lua,
  encode: ({ owner = '' }) => [owner],
  runInMemory(memory, [key = ''], now, { owner = '' }) {
    const { found, record } = unpackSession(memory.get(key), now);
    if (record !== undefined && owner !== '' && owner !== record.owner) return [0, 0, 0, Buffer.alloc(0)];
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
