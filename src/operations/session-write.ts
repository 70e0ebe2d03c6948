import { defineOperation, type Operation } from './operation.ts';
import { arrayOf, foundAt, foundCode, integerAt, newerFormat } from './reply.ts';
import { packSession, SESSION_LUA, unpackSession, untilIdle } from './session-record.ts';

export interface SessionWriteArgs {
  /** `create` needs the id to be free, `update` needs the session to be alive: one that ended stays ended. */
  readonly mode: 'create' | 'update';
  readonly idle: number;
  /** The longest life from now on, in ms; 0: none. An update keeps the deadline that the creation set. */
  readonly absolute: number;
  readonly data: Buffer;
}

export interface SessionWriteReply {
  readonly written: boolean;
  readonly expires: number;
}

/*
 * Writes a session, if it is still what the request believes it to be.
 *
 * KEYS   1 the session
 * ARGV   1 time, 2 mode, 3 idle ms, 4 absolute ms, 5 data
 * reply  {found, written 0 or 1, expires ms}
 */
const lua = `${SESSION_LUA}
local session = load()
local alive = session.expires > now
if session.found == 2 or alive ~= (ARGV[2] == 'update') then return { session.found, 0, 0 } end
local idle, absolute, created = tonumber(ARGV[3]), tonumber(ARGV[4]), now
if absolute > 0 then absolute = now + absolute end
if alive then created, absolute = session.created, session.absolute end
local expires = until_idle(idle, absolute)
redis.call('SET', KEYS[1], struct.pack('>BBI6I6I6I6', 83, 1, created, expires, idle, absolute) .. ARGV[5],
           'PX', expires - now)
return { 0, 1, expires }
`;

export const sessionWrite: Operation<SessionWriteArgs, SessionWriteReply> = defineOperation({
  name: 'session-write',
  lua,
  encode: ({ mode, idle, absolute, data }) => [mode, String(idle), String(absolute), data],
  twin(memory, [key = ''], now, { mode, idle, absolute: span, data }) {
    const session = unpackSession(memory.get(key));
    const alive = session.expires > now;
    if (session.found === 'newer' || alive !== (mode === 'update')) {
      return [foundCode(session.found), 0, 0];
    }
    const created = alive ? session.created : now;
    const fresh = span > 0 ? now + span : 0;
    const absolute = alive ? session.absolute : fresh;
    const expires = untilIdle(now, idle, absolute);
    memory.set(key, packSession({ created, expires, idle, absolute, data }), expires - now);
    return [0, 1, expires];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    if (foundAt(fields, 0) === 'newer') throw newerFormat('session');
    return { written: integerAt(fields, 1) === 1, expires: integerAt(fields, 2) };
  },
});
