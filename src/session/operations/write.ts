import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  bytesAt,
  integerAt,
  newerFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import { indexUntil, packSession, SESSION_LUA, unpackSession, untilIdle } from './record.ts';

export interface SessionWriteArgs {
  /** `create` needs the id to be free, `update` needs the session to be alive: one that ended stays ended. */
  readonly mode: 'create' | 'update';
  /** Of an update: the revision that was seen, so that nobody else's write is lost; 0 overwrites any. */
  readonly revision: number;
  readonly idle: number;
  /** The longest life from now on, in ms; 0: none. An update keeps the deadline that the creation set. */
  readonly absolute: number;
  readonly touchAfter: number;
  /** Whose session it is; empty for one without a user. */
  readonly owner: string;
  readonly data: Buffer;
}

export interface SessionWriteReply {
  /** `gone`: it has ended, or the new id is taken. `changed`: somebody else has written it since. */
  readonly outcome: 'written' | 'gone' | 'changed';
  /** What is stored now: of a change by somebody else, theirs. */
  readonly revision: number;
  readonly current: Buffer | null;
  readonly created: number;
  readonly owner: string;
  /** The owner's index must learn that the session lives until then; 0: it knows. */
  readonly indexUntil: number;
}

const OUTCOMES = ['gone', 'written', 'changed'] as const;

/*
 * Writes a session, if it is still what the request believes it to be.
 *
 * KEYS   1 the session
 * ARGV   1 time, 2 mode, 3 revision, 4 idle ms, 5 absolute ms, 6 touch-after ms, 7 owner, 8 data
 * reply  {found, outcome (0 gone, 1 written, 2 changed), revision, current data or nil, created ms, owner,
 *         index until ms}
 */
const lua = `${SESSION_LUA}
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
session.expires = until_idle(now, session.idle, session.absolute)
local index_until = index(session, tonumber(ARGV[6]))
redis.call('SET', KEYS[1], struct.pack('>BBI6I6I6I6I6I4B', 83, 1, session.created, now, session.idle, session.absolute,
  session.indexed, session.revision, #session.owner) .. session.owner .. ARGV[8], 'PX', session.expires - now)
return { 0, 1, session.revision, false, session.created, session.owner, index_until }
`;

export const sessionWrite: Operation<SessionWriteArgs, SessionWriteReply> = defineOperation({
  name: 'session-write',
  lua,
  encode({ mode, revision, idle, absolute, touchAfter, owner, data }) {
    return [mode, String(revision), String(idle), String(absolute), String(touchAfter), owner, data];
  },
  runInMemory(memory, [key = ''], now, args) {
    const { found, expires, record: old } = unpackSession(memory.get(key));
    const alive = expires > now;
    if (found === 'newer' || alive !== (args.mode === 'update')) {
      return [storedFormatCode(found), 0, 0, null, 0, Buffer.alloc(0), 0];
    }
    const absolute = args.absolute > 0 ? now + args.absolute : 0;
    const kept = alive ? old : { created: now, absolute, indexed: 0, revision: 0, owner: args.owner };
    if (alive && args.revision > 0 && args.revision !== old.revision) {
      return [0, 2, old.revision, old.data, old.created, Buffer.from(old.owner, 'latin1'), 0];
    }
    const revision = (kept.revision % 0xffffffff) + 1;
    const { idle, owner, data } = args;
    const known = kept.owner === owner ? kept.indexed : 0;
    const record = { ...kept, owner, indexed: known, seen: now, idle, revision, data };
    const until = indexUntil(record, args.touchAfter);
    const indexed = until > 0 ? until : record.indexed;
    memory.set(key, packSession({ ...record, indexed }), untilIdle(record) - now);
    return [0, 1, revision, null, record.created, Buffer.from(owner, 'latin1'), until];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    if (storedFormatAt(fields, 0) === 'newer') throw newerFormat('session');
    return {
      outcome: OUTCOMES[integerAt(fields, 1)] ?? 'gone',
      revision: integerAt(fields, 2),
      current: bytesAt(fields, 3),
      created: integerAt(fields, 4),
      owner: bytesAt(fields, 5)?.toString('latin1') ?? '',
      indexUntil: integerAt(fields, 6),
    };
  },
});
