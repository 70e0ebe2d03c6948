import type { Keyspace } from '../../engine/operation.ts';
import type { StoredFormat } from '../../engine/reply.ts';
import type { Charge, LimitAlgorithm, PolicyNumbers, PolicyState } from './algorithm.ts';
import { CHUNK, ENTRY, HEADER, MAX_UNITS, MAX_USED, PackedLog } from './packed-log.ts';

/*
 * The exact sliding window: a log of what was counted when, packed into one string (packed-log.ts). Units of one
 * millisecond share an entry. Expired entries are passed over by moving `head`; once they are half of the string, or
 * it is full, it is written anew, so that a hit costs O(1) on average. Strings of up to CHUNK entries are read and
 * written whole, since one command is cheaper than three. A clock that goes back stands still at the latest time that
 * was written down, so that the order of entries holds. An entry of which all units are given back is cut out.
 *
 * Policy numbers: limit in units, span = window in ms, rate = resolution in ms (times are rounded up to it).
 */
const lua = `
do
  local HEADER, ENTRY, CHUNK, MAX_UNITS, MAX_USED = ${HEADER}, ${ENTRY}, ${CHUNK}, ${MAX_UNITS}, ${MAX_USED}
  local window = {}
  algorithms['w'] = window

  function window.open(key, limit, span, rate)
    local s = { key = key, limit = limit, span = span, rate = rate, found = 0,
                head = 0, used = 0, last = 0, count = 0, room = 0, first = 0, chunk = '' }
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
        local room = (size - HEADER) / ENTRY
        if head > count or count > room then
          s.found = 1
        else
          s.head, s.count, s.used, s.last, s.room = head, count, used, last, room
          s.chunk = string.sub(raw, HEADER + 1)
        end
      end
    end
    s.now = math.max(now, s.last)
    s.opened = s.head
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

  function window.slice(s, from, to)
    if from == to then return '' end
    if s.first == 0 and #s.chunk >= to * ENTRY then return string.sub(s.chunk, from * ENTRY + 1, to * ENTRY) end
    return redis.call('GETRANGE', s.key, HEADER + from * ENTRY, HEADER + to * ENTRY - 1)
  end

  function window.replace(s, index, time, units)
    redis.call('SETRANGE', s.key, HEADER + index * ENTRY, struct.pack('>I6I2', time, units))
    s.chunk = ''
  end

  function window.used(s) return s.used end

  function window.until_freed(s, units)
    local index, free_at = s.head, s.now
    while units > 0 and index < s.count do
      local time, freed = window.entry(s, index)
      units = units - freed
      free_at = time + s.span
      index = index + 1
    end
    return free_at - now
  end

  function window.wait_for(s, cost)
    if cost > s.limit then return -1 end
    if s.used + cost <= s.limit then return 0 end
    return window.until_freed(s, s.used + cost - s.limit)
  end

  function window.until_more(s)
    if s.used == 0 then return 0 end
    return window.until_freed(s, math.max(1, s.used - math.max(1, s.limit) + 1))
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
      if less == oldest then s.head = s.head + 1 else window.replace(s, s.head, time, oldest - less) end
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
    if from <= CHUNK or count > s.room or s.head * 2 >= from then
      local entries = window.slice(s, s.head, from) .. table.concat(tail)
      count = count - s.head
      s.count, s.head, s.first, s.chunk, s.room = count, 0, 0, entries, count
      if count > CHUNK then s.room = count + math.ceil(count / 8) end
      local value = window.header(s) .. entries .. string.rep('\\0', (s.room - count) * ENTRY)
      redis.call('SET', s.key, value, 'PX', ttl)
    else
      s.count, s.first, s.chunk = count, 0, ''
      redis.call('SETRANGE', s.key, 0, window.header(s))
      redis.call('SETRANGE', s.key, HEADER + from * ENTRY, table.concat(tail))
      redis.call('PEXPIRE', s.key, ttl)
    end
    s.opened = s.head
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
        window.replace(s, low, time, held - less)
        break
      end
      low = low + 1
    end
    if s.used == before then return end
    if first == s.head then
      s.head = low
    elseif low > first then
      local tail = window.slice(s, low, s.count)
      redis.call('SETRANGE', s.key, HEADER + first * ENTRY, tail .. string.rep('\\0', (low - first) * ENTRY))
      s.count = s.count - (low - first)
    end
    window.keep(s)
  end

  function window.settle(s)
    if s.head > s.opened then window.keep(s) end
  end

  function window.keep(s)
    s.last = s.now
    redis.call('SETRANGE', s.key, 0, window.header(s))
  end
end
`;

class WindowState implements PolicyState {
  readonly #memory: Keyspace;
  readonly #key: string;
  readonly #numbers: PolicyNumbers;
  readonly #log: PackedLog;
  /** The time, and the time as the log knows it, which never goes back. */
  readonly #time: number;
  readonly #now: number;
  #opened: number;

  constructor(memory: Keyspace, key: string, time: number, numbers: PolicyNumbers) {
    this.#memory = memory;
    this.#key = key;
    this.#numbers = numbers;
    this.#time = time;
    const log = new PackedLog(memory.get(key));
    this.#log = log;
    this.#now = Math.max(time, log.last);
    this.#opened = log.head;
    log.trim(this.#now - numbers[1]);
  }

  get found(): StoredFormat {
    return this.#log.found;
  }

  used(): number {
    return this.#log.used;
  }

  #untilFreed(units: number): number {
    return Math.max(this.#now, this.#log.timeOfUnit(units) + this.#numbers[1]) - this.#time;
  }

  waitFor(cost: number): number {
    const [limit] = this.#numbers;
    if (cost > limit) return -1;
    return this.#log.used + cost <= limit ? 0 : this.#untilFreed(this.#log.used + cost - limit);
  }

  untilMore(): number {
    const { used } = this.#log;
    return used === 0 ? 0 : this.#untilFreed(Math.max(1, used - Math.max(1, this.#numbers[0]) + 1));
  }

  charge(wanted: number, isRefused: boolean): Charge {
    const [limit, span, rate] = this.#numbers;
    const log = this.#log;
    const most = isRefused ? Math.max(log.used, limit) : MAX_USED;
    const units = Math.min(wanted, isRefused ? limit : MAX_USED - log.used);
    log.used += units;
    log.last = this.#now;
    // The oldest units make room for those of a refused try. Fewer than before would be a gift to a higher limit.
    log.dropOldest(log.used - most);
    const stamp = log.add(Math.ceil(this.#now / rate) * rate, units);
    this.#opened = log.head;
    this.#memory.set(this.#key, log.pack(), stamp + span - this.#time);
    return { stamp, position: 0 };
  }

  refund({ stamp }: Charge, units: number): void {
    if (this.#log.giveBack(stamp, units)) this.#keep();
  }

  settle(): void {
    if (this.#log.head > this.#opened) this.#keep();
  }

  #keep(): void {
    this.#log.last = this.#now;
    this.#memory.rewrite(this.#key, this.#log.pack());
  }
}

export const slidingWindow: LimitAlgorithm = {
  code: 'w',
  lua,
  open: (memory, key, now, numbers) => new WindowState(memory, key, now, numbers),
};
