import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  bytesAt,
  integerAt,
  newerFormat,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import { indexUntil, packSession, SESSION_LUA, unpackSession, untilIdle } from './record.ts';

export interface SessionReadArgs {
  /** The expiry slides when that wins at least so many milliseconds, so that most reads write nothing. 0: never. */
  readonly touchAfter: number;
  /** What `touchAfter` was meant for: a session with a shorter idle time is touched the more often. */
  readonly idle: number;
}

export interface SessionReadReply {
  readonly found: StoredFormat;
  /** Null when there is no live session. */
  readonly data: Buffer | null;
  readonly created: number;
  readonly seen: number;
  readonly expires: number;
  readonly revision: number;
  readonly owner: string;
  /** The owner's index must be told that the session lives until then; 0: it knows. */
  readonly indexUntil: number;
}

/*
 * Reads a session and slides its idle deadline.
 *
 * KEYS   1 the session
 * ARGV   1 time, 2 touch-after ms, 3 the idle ms that it was meant for
 * reply  {found, data or nil, created ms, seen ms, expires ms, revision, owner, index until ms}
 */
const lua = `${SESSION_LUA}
local session, touch_after, usual = load(), tonumber(ARGV[2]), tonumber(ARGV[3])
if session.expires <= now then return { session.found, false, 0, 0, 0, 0, '', 0 } end
if touch_after > 0 and session.idle < usual then
  touch_after = math.max(1, math.floor(touch_after * session.idle / usual))
end
local expires, index_until = until_idle(now, session.idle, session.absolute), 0
if touch_after > 0 and expires - session.expires >= touch_after then
  session.seen, session.expires = now, expires
  index_until = index(session, touch_after)
  redis.call('SETRANGE', KEYS[1], 8, struct.pack('>I6', now))
  if index_until > 0 then redis.call('SETRANGE', KEYS[1], 26, struct.pack('>I6', index_until)) end
  redis.call('PEXPIRE', KEYS[1], expires - now)
end
return { 0, session.data, session.created, session.seen, session.expires, session.revision, session.owner, index_until }
`;

export const sessionRead: Operation<SessionReadArgs, SessionReadReply> = defineOperation({
  name: 'session-read',
  lua,
  encode: ({ touchAfter, idle }) => [String(touchAfter), String(idle)],
  runInMemory(memory, [key = ''], now, { touchAfter: usualTouchAfter, idle: usual }) {
    const { found, expires, record } = unpackSession(memory.get(key));
    if (expires <= now) return [storedFormatCode(found), null, 0, 0, 0, 0, Buffer.alloc(0), 0];
    const touchAfter =
      usualTouchAfter > 0 && record.idle < usual
        ? Math.max(1, Math.floor((usualTouchAfter * record.idle) / usual))
        : usualTouchAfter;
    const touched = { ...record, seen: now };
    const later = untilIdle(touched);
    const { created, revision, data } = record;
    const owner = Buffer.from(record.owner, 'latin1');
    if (touchAfter === 0 || later - expires < touchAfter) {
      return [0, data, created, record.seen, expires, revision, owner, 0];
    }
    const until = indexUntil(touched, touchAfter);
    memory.set(key, packSession({ ...touched, indexed: until > 0 ? until : record.indexed }), later - now);
    return [0, data, created, now, later, revision, owner, until];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    const found = storedFormatAt(fields, 0);
    if (found === 'newer') throw newerFormat('session');
    return {
      found,
      data: bytesAt(fields, 1),
      created: integerAt(fields, 2),
      seen: integerAt(fields, 3),
      expires: integerAt(fields, 4),
      revision: integerAt(fields, 5),
      owner: bytesAt(fields, 6)?.toString('latin1') ?? '',
      indexUntil: integerAt(fields, 7),
    };
  },
});
