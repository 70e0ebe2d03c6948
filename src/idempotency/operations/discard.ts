import { defineOperation, type Operation } from '../../engine/operation.ts';
import { IDEMPOTENCY_LUA, packIdempotency, unpackIdempotency } from './record.ts';

export interface IdempotencyDiscardArgs {
  readonly token: string;
  readonly retention: number;
  /** Where those who wait for it are told, and what. */
  readonly channel: string;
  readonly message: string;
  /** False for a run that was granted and never begun: it does not count as an attempt. */
  readonly hasRun: boolean;
}

/*
 * Gives a run up, so that the next request with its key runs at once. What the key stands for and how often it was tried
 * is kept: a run that came to nothing that may be repeated may have done a part of its work all the same.
 *
 * KEYS   1 the record
 * ARGV   1 time, 2 token, 3 retention ms, 4 channel, 5 message, 6 has run 0 or 1
 * reply  1 given up, 0 no longer the caller's
 */
const lua = `${IDEMPOTENCY_LUA}
local record = load()
if record.state ~= 'R' or record.token ~= ARGV[2] then return 0 end
if ARGV[6] == '0' then record.attempt = record.attempt - 1 end
if record.attempt < 1 then
  redis.call('DEL', KEYS[1])
else
  save({ state = 'O', waited = 0, attempt = record.attempt, lease = 0, ends = now + ARGV[3],
         fingerprint = record.fingerprint, token = '', answer = '' })
end
tell(record, ARGV[4], ARGV[5])
return 1
`;

export const idempotencyDiscard: Operation<IdempotencyDiscardArgs, boolean> = defineOperation({
  name: 'idempotency-discard',
  lua,
  encode: ({ token, retention, channel, message, hasRun }) => [
    token,
    String(retention),
    channel,
    message,
    hasRun ? '1' : '0',
  ],
  runInMemory(memory, [key = ''], now, { token, retention, channel, message, hasRun }) {
    const { record } = unpackIdempotency(memory.get(key), now);
    if (record?.state !== 'R' || record.token !== token) return 0;
    const attempt = hasRun ? record.attempt : record.attempt - 1;
    if (attempt < 1) memory.delete(key);
    else {
      const open = { state: 'O', waited: false, attempt, lease: 0, ends: now + retention } as const;
      const rest = { fingerprint: record.fingerprint, token: '', answer: Buffer.alloc(0) };
      memory.set(key, packIdempotency({ ...open, ...rest }), retention);
    }
    if (record.waited) memory.publish(channel, message);
    return 1;
  },
  decode: (reply) => reply === 1,
});
