import { defineOperation, type Operation } from '../../engine/operation.ts';
import { IDEMPOTENCY_LUA, type IdempotencyClaim, packIdempotency, unpackIdempotency } from './record.ts';

export interface IdempotencyRenewArgs extends IdempotencyClaim {
  readonly lease: number;
  readonly retention: number;
}

/*
 * Gives a run a full lease from now, also one whose lease has ended and that nobody has taken over: it is under way, and
 * whoever began now would be the second. A record that has gone, with a server that lost its data, is written anew.
 *
 * KEYS   1 the record
 * ARGV   1 time, 2 token, 3 fingerprint, 4 attempt, 5 lease ms, 6 retention ms
 * reply  1 renewed, 0 no longer the caller's
 */
const lua = `${IDEMPOTENCY_LUA}
local record = load()
if record.found ~= 0 then return 0 end
if not record.state then
  record = { state = 'R', waited = 0, attempt = tonumber(ARGV[4]), fingerprint = ARGV[3], token = ARGV[2], answer = '' }
end
if record.state ~= 'R' or record.token ~= ARGV[2] then return 0 end
record.lease, record.ends = now + ARGV[5], now + ARGV[5] + ARGV[6]
save(record)
return 1
`;

export const idempotencyRenew: Operation<IdempotencyRenewArgs, boolean> = defineOperation({
  name: 'idempotency-renew',
  lua,
  encode: ({ token, fingerprint, attempt, lease, retention }) => [
    token,
    fingerprint,
    String(attempt),
    String(lease),
    String(retention),
  ],
  runInMemory(memory, [key = ''], now, { token, fingerprint, attempt, lease, retention }) {
    const { found, record } = unpackIdempotency(memory.get(key), now);
    if (found !== 'fine') return 0;
    const anew = { state: 'R', waited: false, attempt, fingerprint, token, answer: Buffer.alloc(0) } as const;
    const run = record ?? anew;
    if (run.state !== 'R' || run.token !== token) return 0;
    const times = { lease: now + lease, ends: now + lease + retention };
    memory.set(key, packIdempotency({ ...run, ...times }), lease + retention);
    return 1;
  },
  decode: (reply) => reply === 1,
});
