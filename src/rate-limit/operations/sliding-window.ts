import type { Keyspace } from '../../engine/operation.ts';
import type { StoredFormat } from '../../engine/reply.ts';
import type { Charge, LimitAlgorithm, PolicyNumbers, PolicyState } from './algorithm.ts';
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
const lua = /* lua */ `
do
  local HEADER, ENTRY, CHUNK, MAX_UNITS, MAX_USED = ${HEADER}, ${ENTRY}, ${CHUNK}, ${MAX_UNITS}, ${MAX_USED}
  local window = {}
  algorithms['w'] = window

  function window.open(key, limit, span, rate)
    local s = { key = key, limit = limit, span = span, rate = rate, found = 0,
                head = 0, used = 0, last = 0, count = 0, capacity = 0, first = 0, chunk = '' }
    local raw = read('GETRANGE', key, 0, HEADER + ENTRY * CHUNK - 1)
    if type(raw) == 'table' then
      s.found = 1
    elseif #raw > 0 then
      local size = #raw
      if size == HEADER + ENTRY * CHUNK then size = redis.call('STRLEN', key) end
      local version = string.byte(raw, 2)
      if string.sub(raw, 1, 1) == 'W' and version and version > 1 then
        s.found = 2
      elseif string.sub(raw, 1, 2) ~= 'W\\1' or size < HEADER or (size - HEADER) % ENTRY ~= 0 then
        s.found = 1
      else
        local _, _, head, count, used, last = struct.unpack('>BBI4I4I4I6', raw)
        local capacity = (size - HEADER) / ENTRY
        if head > count or count > capacity then
          s.found = 1
        else
          s.head, s.count, s.used, s.last, s.capacity = head, count, used, last, capacity
          s.chunk = string.sub(raw, HEADER + 1)
        end
      end
    end
    s.now = math.max(now, s.last)
    s.stored_head = s.head
    while s.head < s.count do
      local time, units = window.entry(s, s.head)
      if time + span > s.now then break end
      s.head = s.head + 1
      s.used = math.max(0, s.used - units)
    end
    if s.head == s.count then s.used = 0 end
    return s
  end

  function window.entry(s, index)
    local at = (index - s.first) * ENTRY
    if at < 0 or at >= #s.chunk then
      s.first, at = index, 0
      s.chunk = redis.call('GETRANGE', s.key, HEADER + index * ENTRY, HEADER + (index + CHUNK) * ENTRY - 1)
    end
    return struct.unpack('>I6I2', s.chunk, at + 1)
  end

  function window.entries(s, from, to)
    if from == to then return '' end
    if s.first == 0 and #s.chunk >= to * ENTRY then return string.sub(s.chunk, from * ENTRY + 1, to * ENTRY) end
    return redis.call('GETRANGE', s.key, HEADER + from * ENTRY, HEADER + to * ENTRY - 1)
  end

  function window.replace_entry(s, index, time, units)
    redis.call('SETRANGE', s.key, HEADER + index * ENTRY, struct.pack('>I6I2', time, units))
    s.chunk = ''
  end

  function window.used(s) return s.used end

  function window.ms_until_freed(s, units)
    local index, free_at = s.head, s.now
    while units > 0 and index < s.count do
      local time, freed = window.entry(s, index)
      units = units - freed
      free_at = time + s.span
      index = index + 1
    end
    return free_at - now
  end

  function window.wait_ms(s, cost)
    if cost > s.limit then return -1 end
    if s.used + cost <= s.limit then return 0 end
    return window.ms_until_freed(s, s.used + cost - s.limit)
  end

  function window.reset_ms(s)
    if s.used == 0 then return 0 end
    return window.ms_until_freed(s, math.max(1, s.used - math.max(1, s.limit) + 1))
  end

  function window.header(s)
    return struct.pack('>BBI4I4I4I6', 87, 1, s.head, s.count, s.used, s.last)
  end

  function window.charge(s, units, refused)
    local stamp = math.ceil(s.now / s.rate) * s.rate
    local most = refused and math.max(s.used, s.limit) or MAX_USED
    units = math.min(units, refused and s.limit or MAX_USED - s.used)
    s.used, s.last = s.used + units, s.now
    while s.used > most and s.head < s.count do
      local time, oldest = window.entry(s, s.head)
      local less = math.min(oldest, s.used - most)
      s.used = s.used - less
      if less == oldest then s.head = s.head + 1 else window.replace_entry(s, s.head, time, oldest - less) end
    end
    local from, tail = s.count, {}
    if s.count > s.head then
      local time, held = window.entry(s, s.count - 1)
      stamp = math.max(stamp, time)
      if time == stamp and held < MAX_UNITS and units > 0 then
        local more = math.min(units, MAX_UNITS - held)
        from, units = s.count - 1, units - more
        tail[1] = struct.pack('>I6I2', time, held + more)
      end
    end
    while units > 0 do
      local more = math.min(units, MAX_UNITS)
      tail[#tail + 1] = struct.pack('>I6I2', stamp, more)
      units = units - more
    end
    local ttl = stamp + s.span - now
    local count = from + #tail
    if from <= CHUNK or count > s.capacity or s.head * 2 >= from then
      local entries = window.entries(s, s.head, from) .. table.concat(tail)
      count = count - s.head
      s.count, s.head, s.first, s.chunk, s.capacity = count, 0, 0, entries, count
      if count > CHUNK then s.capacity = count + math.ceil(count / 8) end
      local value = window.header(s) .. entries .. string.rep('\\0', (s.capacity - count) * ENTRY)
      redis.call('SET', s.key, value, 'PX', ttl)
    else
      s.count, s.first, s.chunk = count, 0, ''
      redis.call('SETRANGE', s.key, 0, window.header(s))
      redis.call('SETRANGE', s.key, HEADER + from * ENTRY, table.concat(tail))
      redis.call('PEXPIRE', s.key, ttl)
    end
    s.stored_head = s.head
    return stamp, 0
  end

  function window.refund(s, stamp, _, units)
    local low, high = s.head, s.count
    while low < high do
      local middle = math.floor((low + high) / 2)
      if window.entry(s, middle) < stamp then low = middle + 1 else high = middle end
    end
    local first, before = low, s.used
    while units > 0 and low < s.count do
      local time, held = window.entry(s, low)
      if time ~= stamp then break end
      local less = math.min(units, held)
      units, s.used = units - less, math.max(0, s.used - less)
      if less < held then
        window.replace_entry(s, low, time, held - less)
        break
      end
      low = low + 1
    end
    if s.used == before then return end
    if first == s.head then
      s.head = low
    elseif low > first then
      local tail = window.entries(s, low, s.count)
      redis.call('SETRANGE', s.key, HEADER + first * ENTRY, tail .. string.rep('\\0', (low - first) * ENTRY))
      s.count = s.count - (low - first)
    end
    window.save_header(s)
  end

  function window.visit(s)
    if s.head > s.stored_head then window.save_header(s) end
  end

  function window.save_header(s)
    s.last = s.now
    redis.call('SETRANGE', s.key, 0, window.header(s))
  end
end
`;

class WindowState implements PolicyState {
  readonly #memory: Keyspace;
  readonly #key: string;
  readonly #numbers: PolicyNumbers;
  readonly #log: WindowLog;
  readonly #time: number;
  /** The time of the call, or the latest time in the log if that is later. */
  readonly #now: number;
  #storedHead: number;

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

  resetMs(): number {
    const { used } = this.#log;
    return used === 0 ? 0 : this.#msUntilFreed(Math.max(1, used - Math.max(1, this.#numbers[0]) + 1));
  }

  charge(asked: number, isRefused: boolean): Charge {
    const [limit, span, rate] = this.#numbers;
    const log = this.#log;
    const most = isRefused ? Math.max(log.used, limit) : MAX_USED;
    const units = Math.min(asked, isRefused ? limit : MAX_USED - log.used);
    log.used += units;
    log.last = this.#now;
    // The units of a refused request replace the oldest units. The count must not fall: a call with a higher limit
    // would gain quota.
    log.dropOldest(log.used - most);
    const stamp = log.append(Math.ceil(this.#now / rate) * rate, units);
    this.#storedHead = log.head;
    this.#memory.set(this.#key, log.pack(), stamp + span - this.#time);
    return { stamp, position: 0 };
  }

  refund({ stamp }: Charge, units: number): void {
    if (this.#log.refund(stamp, units)) this.#save();
  }

  /** Stores which entries have expired, so that the next call need not visit them again. */
  visit(): void {
    if (this.#log.head > this.#storedHead) this.#save();
  }

  #save(): void {
    this.#log.last = this.#now;
    this.#memory.rewrite(this.#key, this.#log.pack());
  }
}

export const slidingWindow: LimitAlgorithm = {
  code: 'w',
  lua,
  open: (memory, key, now, numbers) => new WindowState(memory, key, now, numbers),
};
