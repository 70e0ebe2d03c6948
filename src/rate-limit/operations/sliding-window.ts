import type { Keyspace } from '../../engine/operation.ts';
import type { StoredFormat } from '../../engine/reply.ts';
import type { AlgorithmLua, Charge, LimitAlgorithm, PolicyNumbers, PolicyState } from './algorithm.ts';
import { CHUNK, ENTRY, HEADER, MAX_UNITS, MAX_USED, WindowLog } from './window-log.ts';

/*
 * The exact sliding window: a log of times and units in one string (format: window-log.ts). Units of the same
 * millisecond share an entry. Entries expire by moving `head`. The string is rewritten without the expired entries when
 * they are half of all entries or the string is full, so that a charge costs O(1) on average. Strings of up to CHUNK
 * entries are read and written whole, since one command is cheaper than three. When the clock goes back, the latest
 * stored time is used, so that entries stay in ascending order. An entry whose units are all refunded is removed.
 *
 * Policy numbers: limit in units, span = window in ms, rate = resolution in ms (times are rounded up to a multiple of
 * it).
 */
const ENTRY_FORMAT = "'>I6I2'";
const HEADER_FORMAT = "'>BBI4I4I4I6'";

/*
 * `chunk` holds entries from the index `first` on, `capacity` is the number of entries for which the string has space.
 * `clock` is the time of the call, or the latest time in the log if that is later. Charges are `pending` units with the
 * time `latest` until they are saved, so that several charges are written at once.
 */
const lua: AlgorithmLua = {
  state: [
    'head',
    'count',
    'used',
    'last',
    'capacity',
    'chunk_start',
    'chunk',
    'clock',
    'stored_head',
    'pending',
    'latest',
  ],

  helpers: /* lua */ `
local function entry(index)
  local at = (index - chunk_start) * ${ENTRY}
  if at < 0 or at >= #chunk then
    chunk_start, at = index, 0
    chunk = redis.call('GETRANGE', key, ${HEADER} + index * ${ENTRY}, ${HEADER} + (index + ${CHUNK}) * ${ENTRY} - 1)
  end
  return struct.unpack(${ENTRY_FORMAT}, chunk, at + 1)
end

local function ms_until_freed(units)
  local index, free_at = head, clock
  while units > 0 and index < count do
    local time, freed = entry(index)
    units, free_at, index = units - freed, time + span, index + 1
  end
  if units > 0 and pending > 0 then free_at = latest + span end
  return free_at - now
end`,

  open: /* lua */ `
head, count, used, last, capacity, chunk_start, chunk, pending, latest = 0, 0, 0, 0, 0, 0, '', 0, 0
local raw = read('GETRANGE', key, '0', '${HEADER + ENTRY * CHUNK - 1}')
if type(raw) == 'table' then
  found = 1
elseif raw ~= '' then
  local size, magic, version = #raw, string.byte(raw, 1, 2)
  if size == ${HEADER + ENTRY * CHUNK} then size = redis.call('STRLEN', key) end
  if magic == 87 and version and version > 1 then
    found = 2
  elseif magic ~= 87 or version ~= 1 or size < ${HEADER} or (size - ${HEADER}) % ${ENTRY} ~= 0 then
    found = 1
  else
    magic, version, head, count, used, last = struct.unpack(${HEADER_FORMAT}, raw)
    capacity, chunk_start, chunk = (size - ${HEADER}) / ${ENTRY}, 0, string.sub(raw, ${HEADER + 1})
    if head > count or count > capacity then
      found, head, count, used, last, capacity, chunk = 1, 0, 0, 0, 0, 0, ''
    end
  end
end
clock, stored_head = last > now and last or now, head
while head < count do
  local time, units = entry(head)
  if time + span > clock then break end
  head, used = head + 1, used > units and used - units or 0
end
if head == count then used = 0 end`,

  wait: /* lua */ `
if cost > limit then wait = -1
elseif used + cost <= limit then wait = 0
else wait = ms_until_freed(used + cost - limit) end`,

  charge: /* lua */ `
local units = math.min(cost, refused and limit or ${MAX_USED} - used)
local most = refused and math.max(used, limit) or ${MAX_USED}
used, last = used + units, clock
while used > most and head < count do
  local time, oldest = entry(head)
  local less = math.min(oldest, used - most)
  used = used - less
  if less == oldest then
    head = head + 1
  else
    redis.call('SETRANGE', key, ${HEADER} + head * ${ENTRY}, struct.pack(${ENTRY_FORMAT}, time, oldest - less))
    chunk = ''
  end
end
latest = clock + -clock % rate
if head < count then latest = math.max(latest, (entry(count - 1))) end
pending, charged = pending + units, true
stamp, position = latest, 0`,

  turn: /* lua */ `
if wait >= 0 and head < count then
  local granted = entry(count - 1)
  if granted > clock + -clock % rate then wait = math.max(wait, granted - now) end
end`,

  postpone: /* lua */ `
latest = math.max(latest, due + -due % rate)
stamp = latest`,

  result: /* lua */ `
counted = used
if used > 0 then reset = ms_until_freed(math.max(1, used - math.max(1, limit) + 1)) end`,

  save: /* lua */ `
if charged then
  local from, tail = count, ''
  if head < count and pending > 0 then
    local time, held = entry(count - 1)
    if time == latest and held < ${MAX_UNITS} then
      local more = math.min(pending, ${MAX_UNITS} - held)
      from, pending, tail = count - 1, pending - more, struct.pack(${ENTRY_FORMAT}, time, held + more)
    end
  end
  if pending >= ${MAX_UNITS} then
    tail = tail .. string.rep(struct.pack(${ENTRY_FORMAT}, latest, ${MAX_UNITS}), math.floor(pending / ${MAX_UNITS}))
    pending = pending % ${MAX_UNITS}
  end
  if pending > 0 then tail = tail .. struct.pack(${ENTRY_FORMAT}, latest, pending) end
  count = from + #tail / ${ENTRY}
  if from <= ${CHUNK} or count > capacity or head * 2 >= from then
    local entries = ''
    if from > head then
      if chunk_start == 0 and #chunk >= from * ${ENTRY} then
        entries = string.sub(chunk, head * ${ENTRY} + 1, from * ${ENTRY})
      else
        entries = redis.call('GETRANGE', key, ${HEADER} + head * ${ENTRY}, ${HEADER} + from * ${ENTRY} - 1)
      end
    end
    count, head = count - head, 0
    local value = struct.pack(${HEADER_FORMAT}, 87, 1, 0, count, used, last) .. entries .. tail
    if count > ${CHUNK} then value = value .. string.rep('\\0', math.ceil(count / 8) * ${ENTRY}) end
    redis.call('SET', key, value, 'PX', latest + span - now)
  else
    redis.call('SETRANGE', key, '0', struct.pack(${HEADER_FORMAT}, 87, 1, head, count, used, last))
    redis.call('SETRANGE', key, ${HEADER} + from * ${ENTRY}, tail)
    redis.call('PEXPIRE', key, latest + span - now)
  end
elseif head > stored_head then
  redis.call('SETRANGE', key, '0', struct.pack(${HEADER_FORMAT}, 87, 1, head, count, used, clock))
end`,

  refund: /* lua */ `
local low, high = head, count
while low < high do
  local middle = math.floor((low + high) / 2)
  if entry(middle) < stamp then low = middle + 1 else high = middle end
end
local from, before = low, used
while units > 0 and low < count do
  local time, held = entry(low)
  if time ~= stamp then break end
  local less = math.min(units, held)
  units, used = units - less, math.max(0, used - less)
  if less < held then
    redis.call('SETRANGE', key, ${HEADER} + low * ${ENTRY}, struct.pack(${ENTRY_FORMAT}, time, held - less))
    break
  end
  low = low + 1
end
if used < before then
  if from == head then
    head = low
  elseif low > from then
    local tail = ''
    if low < count then
      tail = redis.call('GETRANGE', key, ${HEADER} + low * ${ENTRY}, ${HEADER} + count * ${ENTRY} - 1)
    end
    redis.call('SETRANGE', key, ${HEADER} + from * ${ENTRY}, tail .. string.rep('\\0', (low - from) * ${ENTRY}))
    count = count - (low - from)
  end
  redis.call('SETRANGE', key, '0', struct.pack(${HEADER_FORMAT}, 87, 1, head, count, used, clock))
end`,
};

class WindowState implements PolicyState {
  readonly #memory: Keyspace;
  readonly #key: string;
  readonly #numbers: PolicyNumbers;
  readonly #log: WindowLog;
  readonly #time: number;
  /** The time of the call, or the latest time in the log if that is later. */
  readonly #now: number;
  readonly #storedHead: number;
  #isCharged = false;

  constructor(memory: Keyspace, key: string, time: number, numbers: PolicyNumbers) {
    this.#memory = memory;
    this.#key = key;
    this.#numbers = numbers;
    this.#time = time;
    const log = new WindowLog(memory.get(key));
    this.#log = log;
    this.#now = Math.max(time, log.last);
    this.#storedHead = log.head;
    log.expire(this.#now - numbers[1]);
  }

  get found(): StoredFormat {
    return this.#log.found;
  }

  used(): number {
    return this.#log.used;
  }

  #msUntilFreed(units: number): number {
    return Math.max(this.#now, this.#log.timeOfUnit(units) + this.#numbers[1]) - this.#time;
  }

  waitMs(cost: number): number {
    const [limit] = this.#numbers;
    if (cost > limit) return -1;
    return this.#log.used + cost <= limit ? 0 : this.#msUntilFreed(this.#log.used + cost - limit);
  }

  turnMs(cost: number): number {
    const wait = this.waitMs(cost);
    const granted = this.#log.latest();
    if (wait < 0 || granted <= this.#rounded(this.#now)) return wait;
    return Math.max(wait, granted - this.#time);
  }

  #rounded(time: number): number {
    const [, , rate] = this.#numbers;
    return Math.ceil(time / rate) * rate;
  }

  resetMs(): number {
    const { used } = this.#log;
    return used === 0 ? 0 : this.#msUntilFreed(Math.max(1, used - Math.max(1, this.#numbers[0]) + 1));
  }

  charge(asked: number, isRefused: boolean, due = 0): Charge {
    const [limit] = this.#numbers;
    const log = this.#log;
    const most = isRefused ? Math.max(log.used, limit) : MAX_USED;
    const units = Math.min(asked, isRefused ? limit : MAX_USED - log.used);
    log.used += units;
    log.last = this.#now;
    // The units of a refused request replace the oldest units. The count must not fall: a call with a higher limit
    // would gain quota.
    log.dropOldest(log.used - most);
    this.#isCharged = true;
    return { stamp: log.charge(this.#rounded(Math.max(this.#now, due)), units), position: 0 };
  }

  refuse(): void {
    // A refused request changes a log only if it is charged.
  }

  save(): void {
    if (!this.#isCharged) {
      if (this.#log.head > this.#storedHead) this.#rewrite();
      return;
    }
    const latest = this.#log.append();
    this.#memory.set(this.#key, this.#log.pack(), latest + this.#numbers[1] - this.#time);
  }

  refund({ stamp }: Charge, units: number): void {
    if (this.#log.refund(stamp, units)) this.#rewrite();
  }

  #rewrite(): void {
    this.#log.last = this.#now;
    this.#memory.rewrite(this.#key, this.#log.pack());
  }
}

export const slidingWindow: LimitAlgorithm = {
  code: 'w',
  lua,
  open: (memory, key, now, numbers) => new WindowState(memory, key, now, numbers),
};
