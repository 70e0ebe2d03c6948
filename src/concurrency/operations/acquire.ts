import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  integerAt,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import { memberOf, WaiterQueue } from '../../waiting/queue.ts';
import type { ConcurrencyReleaseArgs } from './release.ts';
import { SLOTS_LUA, StoredSlots } from './stored-slots.ts';

export interface ConcurrencyAcquireArgs extends ConcurrencyReleaseArgs {
  readonly lease: number;
  /** The number of waiters allowed; further callers are refused. */
  readonly maxQueue: number;
}

export interface ConcurrencyAcquireReply {
  readonly found: StoredFormat;
  readonly outcome: 'granted' | 'waits' | 'refused';
  /** The number of slots in use, including the one that was granted. */
  readonly running: number;
  /** Milliseconds until the first slot expires; -1 when no slot is in use. */
  readonly leftMs: number;
}

const OUTCOMES = ['refused', 'granted', 'waits'] as const;

/*
 * Hands free slots off to the waiters in front of the caller, and grants the caller a slot that is left or was kept for
 * it. The same command asks first, asks again and accepts a handoff. A corrupt value is treated as absent.
 *
 * KEYS   1 the slots, 2 the queue
 * ARGV   1 time, 2 token, 3 lease ms, 4 wait ms, 5 process, 6 prefix of the channels, 7 limit,
 *        8 number of waiters allowed
 * reply  {found, outcome (0 refused, 1 granted, 2 waits), slots in use, ms left}
 */
const lua = /* lua */ `
local CHANNELS = ARGV[6]
${SLOTS_LUA}
local token, limit = ARGV[2], tonumber(ARGV[7])
local member = token .. ':' .. ARGV[5] .. ':' .. ARGV[4] .. ':' .. ARGV[7]
local outcome = 0
slots_open(ARGV[5])
if slots_end(token, ARGV[5]) or slots_hand_off(limit, token) or count < limit then
  outcome = 1
  slots_take(token, ARGV[3])
  if has_queue then queue_leave(QUEUE, member) end
elseif tonumber(ARGV[4]) > 0 and
  (redis.call('ZSCORE', QUEUE, member) or redis.call('ZCARD', QUEUE) < tonumber(ARGV[8])) then
  outcome = 2
  queue_join(QUEUE, member)
end
local first = redis.call('ZRANGE', SLOTS, 0, 0, 'WITHSCORES')
return { found, outcome, count, first[2] and first[2] - now or -1 }
`;

export const concurrencyAcquire: Operation<ConcurrencyAcquireArgs, ConcurrencyAcquireReply> = defineOperation(
  {
    name: 'concurrency-acquire',
    lua,
    encode({ token, lease, waitMs, process, channels, limit, maxQueue }) {
      return [token, String(lease), String(waitMs), process, channels, String(limit), String(maxQueue)];
    },
    runInMemory(memory, [key = '', queueKey = ''], now, args) {
      const { token, lease, waitMs, process, limit, maxQueue } = args;
      const queue = new WaiterQueue(memory, queueKey, now, args.channels);
      const slots = new StoredSlots(key, queue).open(process);
      const member = memberOf(args);
      let outcome: (typeof OUTCOMES)[number] = 'refused';
      if (slots.end(token, process) || slots.handOff(limit, token) || slots.count < limit) {
        outcome = 'granted';
        slots.take(token, lease);
        queue.leave(member);
      } else if (waitMs > 0 && (queue.has(member) || queue.size < maxQueue)) {
        outcome = 'waits';
        queue.join(member);
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
