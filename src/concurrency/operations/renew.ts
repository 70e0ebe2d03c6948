import { defineOperation, type Operation } from '../../engine/operation.ts';
import { WaitingLine } from '../../waiting/queue.ts';
import { SLOTS_LUA, Slots } from './slots.ts';

export interface ConcurrencyRenewArgs {
  readonly token: string;
  readonly process: string;
  readonly channels: string;
  readonly lease: number;
}

/*
 * Gives a slot its full lease from now. What runs counts, so one that was lost is taken again even above the limit: it
 * keeps others out who would come on top.
 *
 * KEYS   1 the slots, 2 the line
 * ARGV   1 time, 2 token, 3 process, 4 lease ms, 5 what channels begin with
 * reply  1
 */
const lua = `
local CHANNELS = ARGV[5]
${SLOTS_LUA}
slots_open(ARGV[3])
slots_take(ARGV[2], ARGV[4])
return 1
`;

export const concurrencyRenew: Operation<ConcurrencyRenewArgs, void> = defineOperation({
  name: 'concurrency-renew',
  lua,
  encode: ({ token, process, lease, channels }) => [token, process, String(lease), channels],
  runInMemory(memory, [key = '', lineKey = ''], now, { token, process, lease, channels }) {
    const line = new WaitingLine(memory, lineKey, now, channels);
    new Slots(memory, key, now, line, process).take(token, lease);
    return 1;
  },
  decode: () => undefined,
});
