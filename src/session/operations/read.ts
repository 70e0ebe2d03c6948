import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  bytesAt,
  integerAt,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import {
  expiryOf,
  fieldsOf,
  indexUntil,
  ownerAt,
  packSession,
  SESSION_LUA,
  type SessionRecord,
  unpackSession,
} from './format.ts';

export interface SessionReadArgs {
  /** The fewest ms by which a read moves the idle deadline, so that most reads write nothing; 0 never moves it. */
  readonly touchAfter: number;
  /** The idle ms that `touchAfter` was chosen for. A session with fewer idle ms shrinks `touchAfter` in proportion. */
  readonly idle: number;
}

/** The arguments of a read that does not move the idle deadline. */
export const NEVER_TOUCH: SessionReadArgs = { touchAfter: 0, idle: 0 };

export interface SessionReadReply extends Pick<SessionRecord, 'created' | 'seen' | 'revision' | 'owner'> {
  readonly found: StoredFormat;
  /** The data of the live session, sealed; null when no live session is stored. */
  readonly data: Buffer | null;
  readonly expires: number;
  /** The ms until which the owner's index must list the session; 0 when the index needs no update. */
  readonly indexUntil: number;
}

/*
 * Reads a session, and moves its idle deadline if the move is at least touch-after ms.
 *
 * KEYS   1 the session
 * ARGV   1 time, 2 touch-after ms, 3 the idle ms that touch-after was chosen for
 * reply  {found, data or nil, created ms, seen ms, expires ms, revision, owner, index until ms}
 */
const lua = /* lua */ `${SESSION_LUA}
local session, touch_after, usual = load(), tonumber(ARGV[2]), tonumber(ARGV[3])
if session.expires <= now then return { session.found, false, 0, 0, 0, 0, '', 0 } end
if touch_after > 0 and session.idle < usual then
  touch_after = math.max(1, math.floor(touch_after * session.idle / usual))
end
local expires, listed_until = expiry_of(now, session.idle, session.absolute), 0
if touch_after > 0 and expires - session.expires >= touch_after then
  session.seen, session.expires = now, expires
  listed_until = index_until(session, touch_after)
  redis.call('SETRANGE', KEYS[1], 8, struct.pack('>I6', now))
  if listed_until > 0 then redis.call('SETRANGE', KEYS[1], 26, struct.pack('>I6', listed_until)) end
  redis.call('PEXPIRE', KEYS[1], expires - now)
end
return { 0, session.data, session.created, session.seen, session.expires, session.revision, session.owner, listed_until }
`;

export const sessionRead: Operation<SessionReadArgs, SessionReadReply> = defineOperation({
  name: 'session-read',
  lua,
  encode: ({ touchAfter, idle }) => [String(touchAfter), String(idle)],
  runInMemory(memory, [key = ''], now, { touchAfter: usualTouchAfter, idle: usual }) {
    const { found, record } = unpackSession(memory.get(key), now);
    if (record === undefined) return [storedFormatCode(found), null, 0, 0, 0, 0, Buffer.alloc(0), 0];
    const touchAfter =
      usualTouchAfter > 0 && record.idle < usual
        ? Math.max(1, Math.floor((usualTouchAfter * record.idle) / usual))
        : usualTouchAfter;
    const touched = { ...record, seen: now };
    const [expires, later] = [expiryOf(record), expiryOf(touched)];
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
    const fields = fieldsOf(reply);
    return {
      found: storedFormatAt(fields, 0),
      data: bytesAt(fields, 1),
      created: integerAt(fields, 2),
      seen: integerAt(fields, 3),
      expires: integerAt(fields, 4),
      revision: integerAt(fields, 5),
      owner: ownerAt(fields, 6),
      indexUntil: integerAt(fields, 7),
    };
  },
});
