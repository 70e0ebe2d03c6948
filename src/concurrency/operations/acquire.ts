import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  integerAt,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import { memberOf, WaitingLine } from '../../waiting/queue.ts';
import { SLOTS_LUA, Slots } from './slots.ts';

export interface ConcurrencyAcquireArgs {
  readonly token: string;
  readonly lease: number;
  /** How long it is worth waiting for, from the first ask on; 0 does not wait. */
  readonly waitMs: number;
  /** Where the asker hears; needed in order to wait. */
  readonly process: string;
  /** What the channels of the processes begin with. */
  readonly channels: string;
  /** So many may have a slot at once. */
  readonly limit: number;
  /** So many may wait; who comes then is refused. */
  readonly maxQueue: number;
}

export interface ConcurrencyAcquireReply {
  readonly found: StoredFormat;
  readonly outcome: 'granted' | 'waits' | 'refused';
  /** How many have a slot, this one included. */
  readonly running: number;
  /** Until the first slot of all ends that is not renewed; -1 when there is none. */
  readonly leftMs: number;
}

const OUTCOMES = ['refused', 'granted', 'waits'] as const;

/*
 * Takes a slot, where there is one that nobody waits for. As with a lock, the same question does for asking, for asking
 * again and for taking one's turn. What cannot be read counts as nothing.
 *
 * KEYS   1 the slots, 2 the line
 * ARGV   1 time, 2 token, 3 lease ms, 4 wait ms, 5 process, 6 what channels begin with, 7 limit, 8 most who wait
 * reply  {found, 0 refused or 1 granted or 2 waits, running, left ms}
 */
const lua = `
local CHANNELS = ARGV[6]
${SLOTS_LUA}
local token, limit = ARGV[2], tonumber(ARGV[7])
local member = token .. ':' .. ARGV[5] .. ':' .. ARGV[4] .. ':' .. ARGV[7]
local outcome = 0
slots_open(ARGV[5])
if slots_end(token, ARGV[5]) or slots_give(limit, token) or redis.call('ZCARD', SLOTS) < limit then
  outcome = 1
  slots_take(token, ARGV[3])
  line_leave(LINE, member)
elseif tonumber(ARGV[4]) > 0 and
  (redis.call('ZSCORE', LINE, member) or redis.call('ZCARD', LINE) < tonumber(ARGV[8])) then
  outcome = 2
  line_join(LINE, member)
end
local first = redis.call('ZRANGE', SLOTS, 0, 0, 'WITHSCORES')
return { found, outcome, redis.call('ZCARD', SLOTS), first[2] and first[2] - now or -1 }
`;

export const concurrencyAcquire: Operation<ConcurrencyAcquireArgs, ConcurrencyAcquireReply> = defineOperation(
  {
    name: 'concurrency-acquire',
    lua,
    encode: ({ token, lease, waitMs, process, channels, limit, maxQueue }) => [
      token,
      String(lease),
      String(waitMs),
      process,
      channels,
      String(limit),
      String(maxQueue),
    ],
    runInMemory(memory, [key = '', lineKey = ''], now, args) {
      const { token, lease, waitMs, limit, maxQueue } = args;
      const line = new WaitingLine(memory, lineKey, now, args.channels);
      const slots = new Slots(memory, key, now, line, args.process);
      const member = memberOf(args);
      let outcome: (typeof OUTCOMES)[number] = 'refused';
      if (slots.end(token, args.process) || slots.give(limit, token) || slots.count < limit) {
        outcome = 'granted';
        slots.take(token, lease);
        line.leave(member);
      } else if (waitMs > 0 && (line.has(member) || line.size < maxQueue)) {
        outcome = 'waits';
        line.join(member);
      }
      const found = storedFormatCode(slots.isCorrupt ? 'corrupt' : 'fine');
      return [found, OUTCOMES.indexOf(outcome), slots.count, slots.leftMs];
    },
    decode(reply) {
      const fields = arrayOf(reply);
      return {
        found: storedFormatAt(fields, 0),
        outcome: OUTCOMES[integerAt(fields, 1)] ?? 'refused',
        running: integerAt(fields, 2),
        leftMs: integerAt(fields, 3),
      };
    },
  },
);
