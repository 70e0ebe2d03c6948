import type { Keyspace } from '../../engine/operation.ts';
import type { StoredFormat } from '../../engine/reply.ts';

/*
 * A record is packed as
 *
 *   'I', version 1, state, waited u8 (0 or 1), attempt u32, lease u48, ends u48, fingerprint (32 bytes),
 *   length of token u8, token, then the response, which recorded-response.ts unpacks
 *
 * State 'R': the request is running. 'D': the request has run, and its response is recorded. 'N': the request has run,
 * and its response was too large. 'O': the request can run again. `lease`: when a retry can replace an attempt that is
 * not renewed. `ends`: when the record expires; the TTL of the key only follows `ends`. Both are in milliseconds of the
 * server's clock, big-endian. `waited`: 1 if waiters must be notified when the attempt ends.
 */
const HEADER = 53;
const FINGERPRINT_LENGTH = 32;
const FINGERPRINT_AT: number = HEADER - 1 - FINGERPRINT_LENGTH;

/**
 * Defines `load_record()`, which returns KEYS[1] as a table, without a state when there is no record;
 * `save_record(record)`; and `notify_waiters(record, channel)`, which publishes KEYS[1].
 */
export const IDEMPOTENCY_LUA: string = /* lua */ `
local HEADER = ${HEADER}
local function load_record()
  local raw = read('GET', KEYS[1])
  if not raw then return { found = 0 } end
  local version = type(raw) == 'string' and string.byte(raw, 2)
  if not version or string.sub(raw, 1, 1) ~= 'I' then return { found = 1 } end
  if version > 1 then return { found = 2 } end
  local response_at = HEADER + (string.byte(raw, HEADER) or 0)
  if version < 1 or #raw < HEADER or #raw < response_at then return { found = 1 } end
  local _, _, state, waited, attempt, lease, ends = struct.unpack('>BBc1BI4I6I6', raw)
  if not string.find('RDNO', state, 1, true) or waited > 1 then return { found = 1 } end
  if ends <= now then return { found = 0 } end
  return { found = 0, state = state, waited = waited, attempt = attempt, lease = lease, ends = ends,
           fingerprint = string.sub(raw, ${FINGERPRINT_AT + 1}, HEADER - 1),
           token = string.sub(raw, HEADER + 1, response_at), response = string.sub(raw, response_at + 1) }
end
local function save_record(record)
  local head = struct.pack('>BBc1BI4I6I6', 73, 1, record.state, record.waited, record.attempt, record.lease, record.ends)
  redis.call('SET', KEYS[1], head .. record.fingerprint .. string.char(#record.token) .. record.token .. record.response,
    'PX', record.ends - now)
end
local function notify_waiters(record, channel)
  -- For a Redis user without permission to publish, the record must still be saved.
  if record.waited == 1 then redis.pcall('PUBLISH', channel, KEYS[1]) end
end
`;

type IdempotencyState = 'R' | 'D' | 'N' | 'O';

const STATES: readonly string[] = ['R', 'D', 'N', 'O'] satisfies IdempotencyState[];

export interface IdempotencyRecord {
  readonly state: IdempotencyState;
  readonly waited: boolean;
  readonly attempt: number;
  readonly lease: number;
  readonly ends: number;
  readonly fingerprint: Buffer;
  readonly token: string;
  readonly response: Buffer;
}

interface LoadedRecord {
  readonly found: StoredFormat;
  /** Undefined when no record exists, and when the record has expired or is unreadable. */
  readonly record?: IdempotencyRecord;
}

export function unpackIdempotency(value: Buffer | undefined, now: number): LoadedRecord {
  if (value === undefined) return { found: 'fine' };
  const version = value[1];
  if (value[0] !== 0x49 || version === undefined) return { found: 'corrupt' };
  if (version > 1) return { found: 'newer' };
  const responseAt = HEADER + (value[HEADER - 1] ?? 0);
  const state = String.fromCharCode(value[2] ?? 0);
  const waited = value[3] ?? 0;
  if (version < 1 || value.length < HEADER || value.length < responseAt) return { found: 'corrupt' };
  if (!STATES.includes(state) || waited > 1) return { found: 'corrupt' };
  const ends = value.readUIntBE(14, 6);
  if (ends <= now) return { found: 'fine' };
  const record = {
    state: state as IdempotencyState,
    waited: waited === 1,
    attempt: value.readUInt32BE(4),
    lease: value.readUIntBE(8, 6),
    ends,
    fingerprint: value.subarray(FINGERPRINT_AT, HEADER - 1),
    token: value.toString('latin1', HEADER, responseAt),
    response: value.subarray(responseAt),
  };
  return { found: 'fine', record };
}

/** The empty values of the fields that only some states use. */
export const EMPTY: Pick<IdempotencyRecord, 'waited' | 'lease' | 'token' | 'response'> = Object.freeze({
  waited: false,
  lease: 0,
  token: '',
  response: Buffer.alloc(0),
});

export function saveIdempotency(memory: Keyspace, key: string, record: IdempotencyRecord, now: number): void {
  const head = Buffer.alloc(HEADER);
  head[0] = 0x49;
  head[1] = 1;
  head.write(record.state, 2, 'latin1');
  head[3] = record.waited ? 1 : 0;
  head.writeUInt32BE(record.attempt, 4);
  head.writeUIntBE(record.lease, 8, 6);
  head.writeUIntBE(record.ends, 14, 6);
  record.fingerprint.copy(head, FINGERPRINT_AT);
  head[HEADER - 1] = record.token.length;
  const value = Buffer.concat([head, Buffer.from(record.token, 'latin1'), record.response]);
  memory.set(key, value, record.ends - now);
}

/** The data of one attempt with which its record can be written again if Redis has lost the record. */
export interface AttemptRecord {
  readonly token: string;
  readonly fingerprint: Buffer;
  readonly attempt: number;
}
