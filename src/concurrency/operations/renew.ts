import { defineOperation, type Operation } from '../../engine/operation.ts';
import { type QueueArgs, WaiterQueue } from '../../waiting/queue.ts';
import { SLOTS_LUA, StoredSlots } from './stored-slots.ts';

export interface ConcurrencyRenewArgs extends Pick<QueueArgs, 'token' | 'process' | 'channels'> {
  readonly lease: number;
}

/*
 * Restarts the lease of a slot. A slot that was lost is taken again, even above the limit: its request still runs and
 * must be counted. Slots that have become free, as after an unconfirmed handoff, are handed off to waiters.
 *
 * KEYS   1 the slots, 2 the queue
 * ARGV   1 time, 2 token, 3 process, 4 lease ms, 5 prefix of the channels
 * reply  1
 */
const lua = /* lua */ `
local CHANNELS = ARGV[5]
${SLOTS_LUA}
slots_open(ARGV[3])
slots_take(ARGV[2], ARGV[4])
slots_fill()
return 1
`;

export const concurrencyRenew: Operation<ConcurrencyRenewArgs, void> = defineOperation({
  name: 'concurrency-renew',
  lua,
  encode: ({ token, process, lease, channels }) => [token, process, String(lease), channels],
  runInMemory(memory, [key = '', queueKey = ''], now, { token, process, lease, channels }) {
    const queue = new WaiterQueue(memory, queueKey, now, channels);
    const slots = new StoredSlots(key, queue).open(process);
    slots.take(token, lease);
    slots.fill();
    return 1;
  },
  decode: () => undefined,
});
