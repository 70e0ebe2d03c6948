import { defineOperation, type Operation } from './operation.ts';
import { SLOTS_LUA, Slots } from './slots.ts';
import { memberOf, WaitingLine } from './waiting-line.ts';

export interface ConcurrencyReleaseArgs {
  readonly token: string;
  /** As it was asked with, so that who gives up leaves the line. */
  readonly waitMs: number;
  readonly process: string;
  readonly channels: string;
  readonly limit: number;
}

/*
 * Ends what a token has: its slot, its turn, its place in the line. What is free goes to those who wait.
 *
 * KEYS   1 the slots, 2 the line
 * ARGV   1 time, 2 token, 3 wait ms, 4 process, 5 what channels begin with, 6 limit
 * reply  1 it had a slot until now, 0 it had none
 */
const lua = `
local CHANNELS = ARGV[5]
${SLOTS_LUA}
slots_open()
line_leave(LINE, ARGV[2] .. ':' .. ARGV[4] .. ':' .. ARGV[3])
local had = redis.call('ZREM', SLOTS, ARGV[2])
slots_give(tonumber(ARGV[6]), '')
return had
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
  twin(memory, [key = '', lineKey = ''], now, args) {
    const line = new WaitingLine(memory, lineKey, now, args.channels);
    const slots = new Slots(memory, key, now, line);
    line.leave(memberOf(args));
    const had = slots.free(args.token);
    slots.give(args.limit, '');
    return had ? 1 : 0;
  },
  decode: (reply) => reply === 1,
});
