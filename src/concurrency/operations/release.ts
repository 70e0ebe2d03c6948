import { defineOperation, type Operation } from '../../engine/operation.ts';
import { memberOf, WaitingLine } from '../../waiting/queue.ts';
import { SLOTS_LUA, Slots } from './slots.ts';

export interface ConcurrencyReleaseArgs {
  readonly token: string;
  /** As it was asked with, so that who gives up leaves the line. */
  readonly waitMs: number;
  readonly process: string;
  readonly channels: string;
  /** As it was asked with, too. */
  readonly limit: number;
}

/*
 * Ends what a token has: its slot, its turn, its place in the line. What is free goes to those who wait, by the limit that
 * who came last knew: it may have been lowered or raised since this one came.
 *
 * KEYS   1 the slots, 2 the line
 * ARGV   1 time, 2 token, 3 wait ms, 4 process, 5 what channels begin with, 6 limit
 * reply  1 it had a slot until now, 0 it had none
 */
const lua = `
local CHANNELS = ARGV[5]
${SLOTS_LUA}
slots_open(ARGV[4])
line_leave(LINE, ARGV[2] .. ':' .. ARGV[4] .. ':' .. ARGV[3] .. ':' .. ARGV[6])
local had = slots_end(ARGV[2], ARGV[4])
local last = line_parse(redis.call('ZRANGE', LINE, -1, -1)[1])
if last then slots_give(last.limit or 1, '') end
return had and 1 or 0
`;

export const concurrencyRelease: Operation<ConcurrencyReleaseArgs, boolean> = defineOperation({
  name: 'concurrency-release',
  lua,
  encode: ({ token, waitMs, process, channels, limit }) => [
    token,
    String(waitMs),
    process,
    channels,
    String(limit),
  ],
  runInMemory(memory, [key = '', lineKey = ''], now, args) {
    const line = new WaitingLine(memory, lineKey, now, args.channels);
    const slots = new Slots(memory, key, now, line, args.process);
    line.leave(memberOf(args));
    const had = slots.end(args.token, args.process);
    if (line.size > 0) slots.give(line.limit ?? 1, '');
    return had ? 1 : 0;
  },
  decode: (reply) => reply === 1,
});
