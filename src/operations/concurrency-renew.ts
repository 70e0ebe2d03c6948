import { defineOperation, type Operation } from './operation.ts';
import { SLOTS_LUA, Slots } from './slots.ts';
import { WaitingLine } from './waiting-line.ts';

export interface ConcurrencyRenewArgs {
  readonly token: string;
  readonly lease: number;
}

/*
 * Gives a slot its full lease from now. What runs counts, so one that was lost is taken again even above the limit: it
 * keeps others out who would come on top.
 *
 * KEYS   1 the slots, 2 the line
 * ARGV   1 time, 2 token, 3 lease ms
 * reply  1
 */
const lua = `
local CHANNELS
${SLOTS_LUA}
slots_open()
slots_take(ARGV[2], ARGV[3])
return 1
`;

export const concurrencyRenew: Operation<ConcurrencyRenewArgs, void> = defineOperation({
  name: 'concurrency-renew',
  lua,
  encode: ({ token, lease }) => [token, String(lease)],
  twin(memory, [key = '', lineKey = ''], now, { token, lease }) {
    new Slots(memory, key, now, new WaitingLine(memory, lineKey, now, '')).take(token, lease);
    return 1;
  },
  decode: () => undefined,
});
