import { defineOperation, type Operation } from '../../engine/operation.ts';
import { bytesAt, integerAt, storedFormatCode } from '../../engine/reply.ts';
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

export interface SessionWriteArgs {
  /** `create` requires an unused id; `update` requires a live session, so that an ended session is not stored again. */
  readonly mode: 'create' | 'update';
  /** The revision that an update must find, so that no write of another request is lost; 0 overwrites any revision. */
  readonly revision: number;
  readonly idle: number;
  /** The longest lifetime of a created session, in ms; 0 for unlimited. Unused by an update. */
  readonly absolute: number;
  readonly touchAfter: number;
  /** The hashed id of the session's user; empty for a session without a user. */
  readonly owner: string;
  readonly data: Buffer;
}

export interface SessionWriteReply extends Pick<SessionRecord, 'created' | 'revision' | 'owner'> {
  /** `gone`: the session has ended, or the id to create is in use. `changed`: the session has another revision. */
  readonly outcome: 'written' | 'gone' | 'changed';
  /** With `changed`, the data that another request has stored; else null. */
  readonly current: Buffer | null;
  /** The ms until which the owner's index must list the session; 0 when the index needs no update. */
  readonly indexUntil: number;
}

const OUTCOMES = ['gone', 'written', 'changed'] as const;

/*
 * Creates a session if no live session has the id, or updates a live session if its revision is the expected one.
 *
 * KEYS   1 the session
 * ARGV   1 time, 2 mode, 3 revision, 4 idle ms, 5 absolute ms, 6 touch-after ms, 7 owner, 8 data
 * reply  {found, outcome (0 gone, 1 written, 2 changed), revision, current data or nil, created ms, owner,
 *         index until ms}
 */
const lua = /* lua */ `${SESSION_LUA}
local session = load()
local alive = session.expires > now
if session.found == 2 or alive ~= (ARGV[2] == 'update') then return { session.found, 0, 0, false, 0, '', 0 } end
if not alive then
  local absolute = tonumber(ARGV[5])
  if absolute > 0 then absolute = now + absolute end
  session = { created = now, absolute = absolute, indexed = 0, revision = 0, owner = ARGV[7] }
end
local expected = tonumber(ARGV[3])
if alive and expected > 0 and expected ~= session.revision then
  return { 0, 2, session.revision, session.data, session.created, session.owner, 0 }
end
if session.owner ~= ARGV[7] then session.owner, session.indexed = ARGV[7], 0 end
session.seen, session.idle, session.revision = now, tonumber(ARGV[4]), session.revision % 0xffffffff + 1
session.expires = expiry_of(now, session.idle, session.absolute)
local listed_until = index_until(session, tonumber(ARGV[6]))
redis.call('SET', KEYS[1], struct.pack('>BBI6I6I6I6I6I4B', 83, 1, session.created, now, session.idle, session.absolute,
  session.indexed, session.revision, #session.owner) .. session.owner .. ARGV[8], 'PX', session.expires - now)
return { 0, 1, session.revision, false, session.created, session.owner, listed_until }
`;

export const sessionWrite: Operation<SessionWriteArgs, SessionWriteReply> = defineOperation({
  name: 'session-write',
  lua,
  encode({ mode, revision, idle, absolute, touchAfter, owner, data }) {
    return [mode, String(revision), String(idle), String(absolute), String(touchAfter), owner, data];
  },
  runInMemory(memory, [key = ''], now, args) {
    const { found, record: old } = unpackSession(memory.get(key), now);
    if (found === 'newer' || (old !== undefined) !== (args.mode === 'update')) {
      return [storedFormatCode(found), 0, 0, null, 0, Buffer.alloc(0), 0];
    }
    const absolute = args.absolute > 0 ? now + args.absolute : 0;
    const kept = old ?? { created: now, absolute, indexed: 0, revision: 0, owner: args.owner };
    if (old !== undefined && args.revision > 0 && args.revision !== old.revision) {
      return [0, 2, old.revision, old.data, old.created, Buffer.from(old.owner, 'latin1'), 0];
    }
    const revision = (kept.revision % 0xffffffff) + 1;
    const { idle, owner, data } = args;
    const known = kept.owner === owner ? kept.indexed : 0;
    const record = { ...kept, owner, indexed: known, seen: now, idle, revision, data };
    const until = indexUntil(record, args.touchAfter);
    const indexed = until > 0 ? until : record.indexed;
    memory.set(key, packSession({ ...record, indexed }), expiryOf(record) - now);
    return [0, 1, revision, null, record.created, Buffer.from(owner, 'latin1'), until];
  },
  decode(reply) {
    const fields = fieldsOf(reply);
    return {
      outcome: OUTCOMES[integerAt(fields, 1)] ?? 'gone',
      revision: integerAt(fields, 2),
      current: bytesAt(fields, 3),
      created: integerAt(fields, 4),
      owner: ownerAt(fields, 5),
      indexUntil: integerAt(fields, 6),
    };
  },
});
