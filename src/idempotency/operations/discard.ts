import { defineOperation, type Operation } from '../../engine/operation.ts';
import { EMPTY, IDEMPOTENCY_LUA, saveIdempotency, unpackIdempotency } from './record.ts';

export interface IdempotencyDiscardArgs {
  readonly token: string;
  readonly retention: number;
  /** The channel on which the key of the record wakes the waiters. */
  readonly channel: string;
  /** False for an attempt that never ran, for example since the reply that granted it was lost: it is not counted. */
  readonly hasRun: boolean;
}

/*
 * Ends an attempt without a response, so that the next request with the key runs at once. The fingerprint and the
 * number of attempts stay recorded: an attempt without a final response may have done some of its work.
 *
 * KEYS   1 the record
 * ARGV   1 time, 2 token, 3 retention ms, 4 channel, 5 '1' when the attempt has run
 * reply  1 when ended, 0 when another attempt has replaced this one
 */
const lua = /* lua */ `${IDEMPOTENCY_LUA}
local record = load_record()
if record.state ~= 'R' or record.token ~= ARGV[2] then return 0 end
if ARGV[5] == '0' then record.attempt = record.attempt - 1 end
if record.attempt < 1 then
  redis.call('DEL', KEYS[1])
else
  save_record({ state = 'O', waited = 0, attempt = record.attempt, lease = 0, ends = now + ARGV[3],
                fingerprint = record.fingerprint, token = '', response = '' })
end
notify_waiters(record, ARGV[4])
return 1
`;

export const idempotencyDiscard: Operation<IdempotencyDiscardArgs, boolean> = defineOperation({
  name: 'idempotency-discard',
  lua,
  encode({ token, retention, channel, hasRun }) {
    return [token, String(retention), channel, hasRun ? '1' : '0'];
  },
  runInMemory(memory, [key = ''], now, { token, retention, channel, hasRun }) {
    const { record } = unpackIdempotency(memory.get(key), now);
    if (record?.state !== 'R' || record.token !== token) return 0;
    const attempt = hasRun ? record.attempt : record.attempt - 1;
    const { fingerprint } = record;
    const open = { ...EMPTY, state: 'O', attempt, ends: now + retention, fingerprint } as const;
    if (attempt < 1) memory.delete(key);
    else saveIdempotency(memory, key, open, now);
    if (record.waited) memory.publish(channel, key);
    return 1;
  },
  decode: (reply) => reply === 1,
});
