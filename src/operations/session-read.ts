import { defineOperation, type Operation } from './operation.ts';
import { arrayOf, bytesAt, type Found, foundAt, foundCode, integerAt, newerFormat } from './reply.ts';
import { packSession, SESSION_LUA, unpackSession, untilIdle } from './session-record.ts';

export interface SessionReadArgs {
  /** The expiry slides when that wins at least so many milliseconds, so that most reads write nothing. */
  readonly touchAfter: number;
}

export interface SessionReadReply {
  readonly found: Found;
  /** The JSON; null when there is no live session. */
  readonly data: Buffer | null;
  readonly created: number;
  readonly expires: number;
}

/*
 * Reads a session and slides its idle deadline.
 *
 * KEYS   1 the session
 * ARGV   1 time, 2 touch-after ms
 * reply  {found, data or nil, created ms, expires ms}
 */
const lua = `${SESSION_LUA}
local session = load()
if session.expires <= now then return { session.found, false, 0, 0 } end
local expires = until_idle(session.idle, session.absolute)
if expires - session.expires >= tonumber(ARGV[2]) then
  redis.call('SETRANGE', KEYS[1], 8, struct.pack('>I6', expires))
  redis.call('PEXPIRE', KEYS[1], expires - now)
  session.expires = expires
end
return { 0, session.data, session.created, session.expires }
`;

export const sessionRead: Operation<SessionReadArgs, SessionReadReply> = defineOperation({
  name: 'session-read',
  lua,
  encode: ({ touchAfter }) => [String(touchAfter)],
  twin(memory, [key = ''], now, { touchAfter }) {
    const session = unpackSession(memory.get(key));
    if (session.expires <= now) return [foundCode(session.found), null, 0, 0];
    const expires = untilIdle(now, session.idle, session.absolute);
    if (expires - session.expires < touchAfter) return [0, session.data, session.created, session.expires];
    memory.set(key, packSession({ ...session, expires }), expires - now);
    return [0, session.data, session.created, expires];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    const found = foundAt(fields, 0);
    if (found === 'newer') throw newerFormat('session');
    return { found, data: bytesAt(fields, 1), created: integerAt(fields, 2), expires: integerAt(fields, 3) };
  },
});
