import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  integerAt,
  newerFormat,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import { memberOf, TURN_MS, WaitingLine } from '../../waiting/queue.ts';
import { handOver, LOCK_LUA, storeLock, unpackLock } from './record.ts';

export interface LockAcquireArgs {
  readonly token: string;
  readonly lease: number;
  /** How long it is worth waiting for, from the first ask on; 0 does not wait. */
  readonly waitMs: number;
  /** Where the asker hears; needed in order to wait. */
  readonly process: string;
  /** What the channels of the processes begin with. */
  readonly channels: string;
  /** Whether those who wait go first. */
  readonly isFair: boolean;
  /** JSON, or empty. */
  readonly metadata: string;
}

export interface LockAcquireReply {
  readonly granted: boolean;
  readonly fence: number;
  /** Of the lease: ours when granted, else the holder's. -1 when nobody can tell, since the value is corrupt. */
  readonly leftMs: number;
  readonly found: StoredFormat;
}

/** The counter outlives the lock by this much; should it go, the clock still gives a higher fence. */
const FENCE_TTL_MS = 3_600_000;

/*
 * Takes a free lock, or one that is kept for us, and gives it a fencing number that only ever grows: the last one plus
 * one, or the server's time in microseconds where that is higher, as it is after the counter was lost. A lock that is
 * free while others wait goes to the first of them. Who may not have it joins the line, where it keeps its place however
 * often it asks; so the same question does for asking, for asking again and for taking one's turn, also when an answer
 * was not heard. A corrupt value is a held lock, since taking it for a free one could let two in.
 *
 * KEYS   1 the lock, 2 the line, 3 the fence counter
 * ARGV   1 time, 2 token, 3 lease ms, 4 wait ms, 5 process, 6 what channels begin with, 7 '1' for fair, 8 metadata
 * reply  {found, granted 0 or 1, fence, left ms}
 */
const lua = `
local CHANNELS = ARGV[6]
${LOCK_LUA}
local token, member = ARGV[2], ARGV[2] .. ':' .. ARGV[5] .. ':' .. ARGV[4]
local lock = load()
if lock.found ~= 0 then return { lock.found, 0, 0, -1 } end
line_open(KEYS[2])

local function refuse(left)
  if tonumber(ARGV[4]) > 0 then line_join(KEYS[2], member) end
  return { 0, 0, 0, left }
end

if lock.token ~= token then
  if lock.deadline > now then return refuse(lock.deadline - now) end
  if lock.fence == 0 and lock.process ~= ARGV[5] then line_drop(KEYS[2], lock.process) end
  if ARGV[7] == '1' then
    local first = line_first(KEYS[2])
    if first and first.token ~= token then
      hand_over(first)
      return refuse(${TURN_MS})
    end
  end
end
line_leave(KEYS[2], member)

local counter = read('GET', KEYS[3])
local last = type(counter) == 'string' and tonumber(string.match(counter, '^1:(%d+)$') or '') or 0
local fence = math.max(last + 1, now_us)
store({ fence = fence, deadline = now + ARGV[3], token = token, process = ARGV[5], metadata = ARGV[8] }, ARGV[3])
redis.call('SET', KEYS[3], string.format('1:%.0f', fence), 'PX', ARGV[3] + ${FENCE_TTL_MS})
return { 0, 1, fence, tonumber(ARGV[3]) }
`;

export const lockAcquire: Operation<LockAcquireArgs, LockAcquireReply> = defineOperation({
  name: 'lock-acquire',
  lua,
  encode: ({ token, lease, waitMs, process, channels, isFair, metadata }) => [
    token,
    String(lease),
    String(waitMs),
    process,
    channels,
    isFair ? '1' : '0',
    metadata,
  ],
  runInMemory(memory, [key = '', lineKey = '', counterKey = ''], now, args) {
    const { token, lease, waitMs, process, metadata } = args;
    const lock = unpackLock(memory.get(key));
    if (lock.found !== 'fine') return [storedFormatCode(lock.found), 0, 0, -1];
    const line = new WaitingLine(memory, lineKey, now, args.channels);
    const member = memberOf(args);
    const refuse = (left: number) => {
      if (waitMs > 0) line.join(member);
      return [0, 0, 0, left];
    };
    if (lock.token !== token) {
      if (lock.deadline > now) return refuse(lock.deadline - now);
      if (lock.token !== '' && lock.fence === 0 && lock.process !== process) line.drop(lock.process);
      const first = args.isFair ? line.first() : undefined;
      if (first !== undefined && first.token !== token) {
        handOver(memory, key, line, now, first);
        return refuse(TURN_MS);
      }
    }
    line.leave(member);
    const last = Number(/^1:(\d+)$/.exec(memory.get(counterKey)?.toString('latin1') ?? '')?.[1] ?? 0);
    const fence = Math.max(last + 1, now * 1000);
    storeLock(memory, key, { fence, deadline: now + lease, token, process, metadata }, lease);
    memory.set(counterKey, Buffer.from(`1:${fence}`, 'latin1'), lease + FENCE_TTL_MS);
    return [0, 1, fence, lease];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    const found = storedFormatAt(fields, 0);
    if (found === 'newer') throw newerFormat('lock');
    return {
      found,
      granted: integerAt(fields, 1) === 1,
      fence: integerAt(fields, 2),
      leftMs: integerAt(fields, 3),
    };
  },
});
