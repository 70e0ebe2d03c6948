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
  packSession,
  recordOf,
  SESSION_LUA,
  type SessionRecord,
  unpackSession,
} from './format.ts';

export interface SessionReadArgs {
  /** The fewest ms by which a read moves the idle deadline, so that most reads write nothing; 0 never moves it. */
  readonly touchAfter: number;
  /** The idle ms that `touchAfter` was chosen for. A session with fewer idle ms shrinks `touchAfter` in proportion. */
  readonly idle: number;
  /** False for a read without side effects, whose reply says whether a move of the idle deadline is due. */
  readonly moves?: boolean | undefined;
}

/** The arguments of a read that does not move the idle deadline. */
export const NEVER_TOUCH: SessionReadArgs = { touchAfter: 0, idle: 0 };

export interface SessionReadReply
  extends Pick<SessionRecord, 'created' | 'seen' | 'idle' | 'revision' | 'owner'> {
  readonly found: StoredFormat;
  /** The data of the live session; null when no live session is stored. */
  readonly data: Buffer | null;
  readonly expires: number;
  /** The ms until which the owner's index must list the session; 0 when the index needs no update. */
  readonly indexUntil: number;
  /** Whether a move of the idle deadline was due. It has been moved, unless `moves` was false. */
  readonly isTouchDue: boolean;
}

/*
 * Reads a session, and moves its idle deadline if the move is at least touch-after ms.
 *
 * KEYS   1 the session
 * ARGV   1 time, 2 touch-after ms, 3 the idle ms that touch-after was chosen for, 4 whether the deadline may be moved
 * reply  {found, the value before the move or nil, seen ms, index until ms, move due 0 or 1}
 */
const lua = /* lua */ `${SESSION_LUA}
local found, raw = load()
if not raw then return { found, false, 0, 0, 0 } end
local seen, idle, absolute, indexed = struct.unpack('>I6I6I6I6', raw, 9)
local expires = expiry_of(seen, idle, absolute)
if expires <= now then return { 0, false, 0, 0, 0 } end
local touch_after, usual = tonumber(ARGV[2]), tonumber(ARGV[3])
if touch_after == 0 then return { 0, raw, seen, 0, 0 } end
if idle < usual then touch_after = math.max(1, math.floor(touch_after * idle / usual)) end
local later = expiry_of(now, idle, absolute)
if later - expires < touch_after then return { 0, raw, seen, 0, 0 } end
if ARGV[4] == '0' then return { 0, raw, seen, 0, 1 } end
local listed_until = index_until(string.byte(raw, HEADER) > 0, later, indexed, touch_after)
redis.call('SETRANGE', KEYS[1], 8, struct.pack('>I6', now))
if listed_until > 0 then redis.call('SETRANGE', KEYS[1], 26, struct.pack('>I6', listed_until)) end
redis.call('PEXPIRE', KEYS[1], later - now)
return { 0, raw, now, listed_until, 1 }
`;

export const sessionRead: Operation<SessionReadArgs, SessionReadReply> = defineOperation({
  name: 'session-read',
  lua,
  encode: ({ touchAfter, idle, moves }) => [String(touchAfter), String(idle), moves === false ? '0' : '1'],
  runInMemory(memory, [key = ''], now, { touchAfter: usualTouchAfter, idle: usual, moves }) {
    const raw = memory.get(key);
    const { found, record } = unpackSession(raw, now);
    if (raw === undefined || record === undefined) return [storedFormatCode(found), null, 0, 0, 0];
    const touchAfter =
      usualTouchAfter > 0 && record.idle < usual
        ? Math.max(1, Math.floor((usualTouchAfter * record.idle) / usual))
        : usualTouchAfter;
    const touched = { ...record, seen: now };
    const later = expiryOf(touched);
    const isDue = touchAfter > 0 && later - expiryOf(record) >= touchAfter;
    if (!isDue || moves === false) return [0, raw, record.seen, 0, isDue ? 1 : 0];
    const until = indexUntil(touched, touchAfter);
    memory.set(key, packSession({ ...touched, indexed: until > 0 ? until : record.indexed }), later - now);
    return [0, raw, now, until, 1];
  },
  decode(reply) {
    const fields = fieldsOf(reply);
    const [found, value] = [storedFormatAt(fields, 0), bytesAt(fields, 1)];
    if (value === null) return { ...NO_SESSION, found };
    const seen = integerAt(fields, 2);
    const { created, idle, absolute, indexed, revision, owner, data } = recordOf(value);
    const expires = expiryOf({ created, seen, idle, absolute, indexed, revision, owner });
    const [until, isTouchDue] = [integerAt(fields, 3), integerAt(fields, 4) === 1];
    return { found, data, created, seen, idle, expires, revision, owner, indexUntil: until, isTouchDue };
  },
});

const NO_SESSION: Omit<SessionReadReply, 'found'> = {
  ...{ data: null, created: 0, seen: 0, idle: 0, expires: 0, revision: 0, owner: '' },
  ...{ indexUntil: 0, isTouchDue: false },
};
