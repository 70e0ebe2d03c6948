import { defineOperation, type Operation } from '../../engine/operation.ts';
import { IDEMPOTENCY_LUA, type IdempotencyClaim, packIdempotency, unpackIdempotency } from './record.ts';

export interface IdempotencyCompleteArgs extends IdempotencyClaim {
  readonly retention: number;
  /** Where those who wait for it are told, and what. */
  readonly channel: string;
  readonly message: string;
  /** Undefined where it is not kept: only that the request was done. */
  readonly answer: Buffer | undefined;
}

/*
 * Records that a request was done, and its answer, unless somebody else has taken it over. It may be told twice, since
 * a reply that was lost is asked for again; and where the record has gone, nobody else has run it in its place.
 *
 * KEYS   1 the record
 * ARGV   1 time, 2 token, 3 fingerprint, 4 attempt, 5 retention ms, 6 channel, 7 message, 8 state D or N, 9 answer
 * reply  1 recorded, 0 no longer the caller's
 */
const lua = `${IDEMPOTENCY_LUA}
local record = load()
if record.found ~= 0 then return 0 end
if record.state and record.token ~= ARGV[2] then return 0 end
if record.state and record.state ~= 'R' then return 1 end
save({ state = ARGV[8], waited = 0, attempt = tonumber(ARGV[4]), lease = 0, ends = now + ARGV[5],
       fingerprint = ARGV[3], token = ARGV[2], answer = ARGV[9] })
tell(record, ARGV[6], ARGV[7])
return 1
`;

export const idempotencyComplete: Operation<IdempotencyCompleteArgs, boolean> = defineOperation({
  name: 'idempotency-complete',
  lua,
  encode: ({ token, fingerprint, attempt, retention, channel, message, answer }) => [
    token,
    fingerprint,
    String(attempt),
    String(retention),
    channel,
    message,
    answer === undefined ? 'N' : 'D',
    answer ?? '',
  ],
  runInMemory(memory, [key = ''], now, { token, fingerprint, attempt, retention, channel, message, answer }) {
    const { found, record } = unpackIdempotency(memory.get(key), now);
    if (found !== 'fine') return 0;
    if (record !== undefined && record.token !== token) return 0;
    if (record !== undefined && record.state !== 'R') return 1;
    const state = answer === undefined ? 'N' : 'D';
    const done = { state, waited: false, attempt, lease: 0, ends: now + retention } as const;
    const value = packIdempotency({ ...done, fingerprint, token, answer: answer ?? Buffer.alloc(0) });
    memory.set(key, value, retention);
    if (record?.waited === true) memory.publish(channel, message);
    return 1;
  },
  decode: (reply) => reply === 1,
});
