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
import { EMPTY, IDEMPOTENCY_LUA, saveIdempotency, unpackIdempotency } from './record.ts';

export interface IdempotencyBeginArgs {
  readonly token: string;
  /** A SHA-256 that is equal for a request and its retries. */
  readonly fingerprint: Buffer;
  readonly lease: number;
  readonly retention: number;
  /** Whether the caller waits for the end of an attempt that is in flight. */
  readonly waits: boolean;
}

/**
 * `started`: the caller's attempt is the first, or the earlier ones were discarded. `recovered`: it replaces an attempt
 * whose lease has ended. `running`: another attempt is in flight. `mismatch`: the key was used for a different request.
 * `done`: the response is recorded. `unkept`: the request has run, and its response was too large.
 */
type IdempotencyOutcome = (typeof OUTCOMES)[number];

const OUTCOMES = ['started', 'recovered', 'running', 'mismatch', 'done', 'unkept'] as const;

export interface IdempotencyBeginReply {
  readonly found: StoredFormat;
  readonly outcome: IdempotencyOutcome;
  /** The number of the attempt, from 1. */
  readonly attempt: number;
  /** Milliseconds until the lease of the attempt in flight ends; 0 when none is in flight. */
  readonly leftMs: number;
  readonly response: Buffer | null;
}

/*
 * Starts an attempt, or returns the outcome of an earlier one. An attempt of the same request whose lease has ended is
 * replaced. A corrupt record is left alone: to treat it as absent could run a request twice.
 *
 * KEYS   1 the record
 * ARGV   1 time, 2 token, 3 fingerprint, 4 lease ms, 5 retention ms, 6 '1' when the caller waits
 * reply  {found, outcome (0 started, 1 recovered, 2 running, 3 mismatch, 4 done, 5 unkept), attempt, ms left,
 *        response or nil}
 */
const lua = /* lua */ `${IDEMPOTENCY_LUA}
local record = load_record()
if record.found ~= 0 then return { record.found, 2, 0, 0, false } end
local state = record.state
if state and record.fingerprint ~= ARGV[3] then return { 0, 3, record.attempt, 0, false } end
if state == 'D' then return { 0, 4, record.attempt, 0, record.response } end
if state == 'N' then return { 0, 5, record.attempt, 0, false } end
if state == 'R' and record.lease > now then
  if ARGV[6] == '1' and record.waited == 0 then
    record.waited = 1
    save_record(record)
  end
  return { 0, 2, record.attempt, record.lease - now, false }
end
local attempt = (record.attempt or 0) + 1
save_record({ state = 'R', waited = 0, attempt = attempt, lease = now + ARGV[4], ends = now + ARGV[4] + ARGV[5],
              fingerprint = ARGV[3], token = ARGV[2], response = '' })
return { 0, state == 'R' and 1 or 0, attempt, tonumber(ARGV[4]), false }
`;

export const idempotencyBegin: Operation<IdempotencyBeginArgs, IdempotencyBeginReply> = defineOperation({
  name: 'idempotency-begin',
  lua,
  encode({ token, fingerprint, lease, retention, waits }) {
    return [token, fingerprint, String(lease), String(retention), waits ? '1' : '0'];
  },
  runInMemory(memory, [key = ''], now, { token, fingerprint, lease, retention, waits }) {
    const { found, record } = unpackIdempotency(memory.get(key), now);
    if (found !== 'fine') return [storedFormatCode(found), 2, 0, 0, null];
    if (record !== undefined) {
      const { state, attempt, response } = record;
      if (!record.fingerprint.equals(fingerprint)) return [0, 3, attempt, 0, null];
      if (state === 'D') return [0, 4, attempt, 0, response];
      if (state === 'N') return [0, 5, attempt, 0, null];
      if (state === 'R' && record.lease > now) {
        if (waits && !record.waited) saveIdempotency(memory, key, { ...record, waited: true }, now);
        return [0, 2, attempt, record.lease - now, null];
      }
    }
    const attempt = (record?.attempt ?? 0) + 1;
    const times = { lease: now + lease, ends: now + lease + retention };
    saveIdempotency(memory, key, { ...EMPTY, state: 'R', attempt, ...times, fingerprint, token }, now);
    return [0, record?.state === 'R' ? 1 : 0, attempt, lease, null];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    const found = storedFormatAt(fields, 0);
    if (found === 'newer') throw newerFormat('idempotency');
    return {
      found,
      outcome: OUTCOMES[integerAt(fields, 1)] ?? 'running',
      attempt: integerAt(fields, 2),
      leftMs: integerAt(fields, 3),
      response: bytesAt(fields, 4),
    };
  },
});
