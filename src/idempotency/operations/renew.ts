import { defineOperation, type Operation } from '../../engine/operation.ts';
import { type AttemptRecord, EMPTY, IDEMPOTENCY_LUA, saveIdempotency, unpackIdempotency } from './record.ts';

export interface IdempotencyRenewArgs extends AttemptRecord {
  readonly lease: number;
  readonly retention: number;
}

/*
 * Gives an attempt a full lease from now, even if its lease has ended, unless another attempt has replaced this one:
 * this one is still running, and another one would run the request twice. Also writes a record again that Redis has
 * lost.
 *
 * KEYS   1 the record
 * ARGV   1 time, 2 token, 3 fingerprint, 4 attempt, 5 lease ms, 6 retention ms
 * reply  1 when renewed, 0 when another attempt has replaced this one
 */
const lua = /* lua */ `${IDEMPOTENCY_LUA}
local record = load_record()
if record.found ~= 0 then return 0 end
if not record.state then
  record = { state = 'R', waited = 0, attempt = tonumber(ARGV[4]), fingerprint = ARGV[3], token = ARGV[2], response = '' }
end
if record.state ~= 'R' or record.token ~= ARGV[2] then return 0 end
record.lease, record.ends = now + ARGV[5], now + ARGV[5] + ARGV[6]
save_record(record)
return 1
`;

export const idempotencyRenew: Operation<IdempotencyRenewArgs, boolean> = defineOperation({
  name: 'idempotency-renew',
  lua,
  encode({ token, fingerprint, attempt, lease, retention }) {
    return [token, fingerprint, String(attempt), String(lease), String(retention)];
  },
  runInMemory(memory, [key = ''], now, { token, fingerprint, attempt, lease, retention }) {
    const { found, record } = unpackIdempotency(memory.get(key), now);
    if (found !== 'fine') return 0;
    const running = record ?? ({ ...EMPTY, state: 'R', attempt, fingerprint, token } as const);
    if (running.state !== 'R' || running.token !== token) return 0;
    const times = { lease: now + lease, ends: now + lease + retention };
    saveIdempotency(memory, key, { ...running, ...times }, now);
    return 1;
  },
  decode: (reply) => reply === 1,
});
