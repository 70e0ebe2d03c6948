import { defineOperation, type Operation } from '../../engine/operation.ts';
import { bytesAt, integerAt, storedFormatCode } from '../../engine/reply.ts';
import { changeData, DATA_LUA, type DataChanges, SEALED } from './data.ts';
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
  readonly idle: number;
  /** An update sets `idle` only if the stored idle ms are these; default: it sets `idle` in any case. */
  readonly idleBefore?: number | undefined;
  /** The longest lifetime of a created session, in ms; 0 for unlimited. Unused by an update. */
  readonly absolute: number;
  readonly touchAfter: number;
  /** The most bytes that the data of an updated session may have. */
  readonly maxBytes: number;
  /** The hashed id of the session's user; empty for a session without a user; `KEEP_OWNER` for the stored one. */
  readonly owner: string;
  /**
   * The whole data, for a created session, and for an update of a session at `revision`; empty for none. An update of a
   * session at another revision applies the changes.
   */
  readonly data: Buffer;
  /** The revision at which an update stores the whole data; 0 for any revision. */
  readonly revision: number;
  readonly changes?: DataChanges | undefined;
}

/** Cannot be the owner of a session, since a hash has 43 characters. */
export const KEEP_OWNER = 'keep';

export interface SessionWriteReply extends Pick<SessionRecord, 'created' | 'idle' | 'revision'> {
  /**
   * `gone`: the session has ended, or the id to create is in use. `too-large`: the changed data has `size` bytes.
   * `unmergeable`: the stored data has another format than the changes.
   */
  readonly outcome: 'written' | 'gone' | 'too-large' | 'unmergeable';
  /** With `unmergeable`, the stored data; else null. */
  readonly current: Buffer | null;
  readonly size: number;
  /** The owner before the write. */
  readonly ownerBefore: string;
  /** The ms until which the owner's index must list the session; 0 when the index needs no update. */
  readonly indexUntil: number;
}

const OUTCOMES = ['gone', 'written', 'too-large', 'unmergeable'] as const;

/*
 * Creates a session if no live session has the id, or updates a live session: with the whole data if the session has the
 * expected revision, else by applying the changes to the stored data.
 *
 * KEYS   1 the session
 * ARGV   1 time, 2 mode, 3 idle ms, 4 idle ms before, 5 absolute ms, 6 touch-after ms, 7 max bytes, 8 owner or 'keep',
 *        9 revision, 10 data, 11 and following: the changes (see data.ts)
 * reply  {found, outcome (0 gone, 1 written, 2 too large, 3 unmergeable), created ms, idle ms, revision, owner before,
 *         index until ms, size, current data or nil}
 */
const lua = /* lua */ `${SESSION_LUA}${DATA_LUA}
local found, raw = load()
local alive, created, seen, idle, absolute, indexed, revision = false, now, 0, 0, 0, 0, 0
if raw then
  created, seen, idle, absolute, indexed, revision = struct.unpack('>I6I6I6I6I6I4', raw, 3)
  alive = expiry_of(seen, idle, absolute) > now
end
if found == 2 or alive ~= (ARGV[2] == 'update') then return { found, 0, 0, 0, 0, '', 0, 0, false } end
local owner, data, before = ARGV[8], ARGV[10], ''
if not alive then
  created, absolute, indexed, revision = now, tonumber(ARGV[5]), 0, 0
  if absolute > 0 then absolute = now + absolute end
else
  before = owner_of(raw)
  if data == '' or ARGV[9] ~= '0' and tonumber(ARGV[9]) ~= revision then
    local position, size = HEADER + #before + 1
    data, size = change_data(raw, position, 11)
    if not data then return { 0, 3, created, idle, revision, before, 0, 0, string.sub(raw, position) } end
    if size > tonumber(ARGV[7]) then return { 0, 2, created, idle, revision, before, 0, size, false } end
  end
end
if owner == '${KEEP_OWNER}' then owner = before end
if owner ~= before then indexed = 0 end
if not alive or ARGV[4] == '0' or tonumber(ARGV[4]) == idle then idle = tonumber(ARGV[3]) end
revision = revision % 0xffffffff + 1
local expires = expiry_of(now, idle, absolute)
local listed_until = index_until(owner ~= '', expires, indexed, tonumber(ARGV[6]))
if listed_until > 0 then indexed = listed_until end
redis.call('SET', KEYS[1], struct.pack('>BBI6I6I6I6I6I4B', 83, string.byte(data) == ${SEALED} and 2 or 1, created, now, idle,
  absolute, indexed, revision, #owner) .. owner .. data, 'PX', expires - now)
return { 0, 1, created, idle, revision, before, listed_until, 0, false }
`;

export const sessionWrite: Operation<SessionWriteArgs, SessionWriteReply> = defineOperation({
  name: 'session-write',
  lua,
  encode({ mode, idle, idleBefore = 0, absolute, touchAfter, maxBytes, owner, revision, data, changes }) {
    const args: (string | Buffer)[] = [mode];
    for (const number of [idle, idleBefore, absolute, touchAfter, maxBytes]) args.push(String(number));
    args.push(owner, String(revision), data);
    if (changes === undefined) return args;
    const { format, meta, content } = changes;
    args.push(String(format), String(meta.length));
    for (const { start, value } of meta) args.push(start, value);
    for (const { start, value } of content) args.push(start, value);
    return args;
  },
  runInMemory(memory, [key = ''], now, args) {
    const { found, record } = unpackSession(memory.get(key), now);
    if (found === 'newer' || (record !== undefined) !== (args.mode === 'update')) {
      return [storedFormatCode(found), 0, 0, 0, 0, Buffer.alloc(0), 0, 0, null];
    }
    const absolute = args.absolute > 0 ? now + args.absolute : 0;
    const stored = record ?? { created: now, idle: 0, absolute, indexed: 0, revision: 0, owner: '' };
    const before = Buffer.from(stored.owner, 'latin1');
    let { data } = args;
    if (record !== undefined && (data.length === 0 || ![0, record.revision].includes(args.revision))) {
      const refusal = [stored.created, stored.idle, stored.revision, before, 0];
      const changed = args.changes && changeData(record.data, args.changes);
      if (changed === undefined) return [0, 3, ...refusal, 0, record.data];
      if (changed.size > args.maxBytes) return [0, 2, ...refusal, changed.size, null];
      data = changed.data;
    }
    const owner = args.owner === KEEP_OWNER ? stored.owner : args.owner;
    const indexed = owner === stored.owner ? stored.indexed : 0;
    const isIdleSet = record === undefined || [0, record.idle].includes(args.idleBefore ?? 0);
    const idle = isIdleSet ? args.idle : stored.idle;
    const revision = (stored.revision % 0xffffffff) + 1;
    const written = { ...stored, owner, indexed, seen: now, idle, revision, data };
    const until = indexUntil(written, args.touchAfter);
    const packed = packSession({ ...written, indexed: until > 0 ? until : indexed });
    memory.set(key, packed, expiryOf(written) - now);
    return [0, 1, stored.created, idle, revision, before, until, 0, null];
  },
  decode(reply) {
    const fields = fieldsOf(reply);
    return {
      outcome: OUTCOMES[integerAt(fields, 1)] ?? 'gone',
      created: integerAt(fields, 2),
      idle: integerAt(fields, 3),
      revision: integerAt(fields, 4),
      ownerBefore: ownerAt(fields, 5),
      indexUntil: integerAt(fields, 6),
      size: integerAt(fields, 7),
      current: bytesAt(fields, 8),
    };
  },
});
