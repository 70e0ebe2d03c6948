import { defineOperation, type Operation } from '../../engine/operation.ts';
import { type AttemptRecord, EMPTY, IDEMPOTENCY_LUA, saveIdempotency, unpackIdempotency } from './record.ts';

export interface IdempotencyCompleteArgs extends AttemptRecord {
  readonly retention: number;
  /** The channel on which the key of the record wakes the waiters. */
  readonly channel: string;
  /** Undefined for a response that is too large: the record then shows only that the request has run. */
  readonly response: Buffer | undefined;
}

/*
 * Records that a request has run, and its response, unless another attempt has replaced this one. The command can be
 * repeated, for example when its reply was lost. A record that Redis has lost is written again: no other attempt has
 * run.
 *
 * KEYS   1 the record
 * ARGV   1 time, 2 token, 3 fingerprint, 4 attempt, 5 retention ms, 6 channel, 7 state 'D' or 'N', 8 response
 * reply  1 when recorded, 0 when another attempt has replaced this one
 */
const lua = /* lua */ `${IDEMPOTENCY_LUA}
local record = load_record()
if record.found ~= 0 then return 0 end
if record.state and record.token ~= ARGV[2] then return 0 end
if record.state and record.state ~= 'R' then return 1 end
save_record({ state = ARGV[7], waited = 0, attempt = tonumber(ARGV[4]), lease = 0, ends = now + ARGV[5],
              fingerprint = ARGV[3], token = ARGV[2], response = ARGV[8] })
notify_waiters(record, ARGV[6])
return 1
`;

export const idempotencyComplete: Operation<IdempotencyCompleteArgs, boolean> = defineOperation({
  name: 'idempotency-complete',
  lua,
  encode({ token, fingerprint, attempt, retention, channel, response }) {
    const state = response === undefined ? 'N' : 'D';
    return [token, fingerprint, String(attempt), String(retention), channel, state, response ?? ''];
  },
  runInMemory(memory, [key = ''], now, args) {
    const { token, fingerprint, attempt, retention, channel, response } = args;
    const { found, record } = unpackIdempotency(memory.get(key), now);
    if (found !== 'fine') return 0;
    if (record !== undefined && record.token !== token) return 0;
    if (record !== undefined && record.state !== 'R') return 1;
    const state = response === undefined ? 'N' : 'D';
    const done = { ...EMPTY, state, attempt, ends: now + retention, fingerprint, token } as const;
    saveIdempotency(memory, key, response === undefined ? done : { ...done, response }, now);
    if (record?.waited === true) memory.publish(channel, key);
    return 1;
  },
  decode: (reply) => reply === 1,
});
