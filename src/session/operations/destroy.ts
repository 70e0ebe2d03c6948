import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  bytesAt,
  integerAt,
  newerFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import { SESSION_LUA, unpackSession } from './format.ts';

export interface SessionDestroyReply {
  /** Whether the session was alive. */
  readonly existed: boolean;
  readonly created: number;
  /** The user in whose index the session may be. */
  readonly owner: string;
}

/*
 * Destroys a session. A corrupt value is deleted as well; a value of a newer format is not.
 *
 * KEYS   1 the session
 * ARGV   1 time
 * reply  {found, existed 0 or 1, created ms, owner}
 */
const lua = /* lua */ `${SESSION_LUA}
local session = load()
if session.found == 2 then return { 2, 0, 0, '' } end
redis.call('DEL', KEYS[1])
if session.expires <= now then return { session.found, 0, 0, '' } end
return { 0, 1, session.created, session.owner }
`;

export const sessionDestroy: Operation<undefined, SessionDestroyReply> = defineOperation({
  name: 'session-destroy',
  lua,
  encode: () => [],
  runInMemory(memory, [key = ''], now) {
    const { found, expires, record } = unpackSession(memory.get(key));
    if (found === 'newer') return [storedFormatCode(found), 0, 0, Buffer.alloc(0)];
    memory.delete(key);
    if (expires <= now) return [storedFormatCode(found), 0, 0, Buffer.alloc(0)];
    return [0, 1, record.created, Buffer.from(record.owner, 'latin1')];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    if (storedFormatAt(fields, 0) === 'newer') throw newerFormat('session');
    return {
      existed: integerAt(fields, 1) === 1,
      created: integerAt(fields, 2),
      owner: bytesAt(fields, 3)?.toString('latin1') ?? '',
    };
  },
});
