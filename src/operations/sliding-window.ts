import type { LimitAlgorithm, PolicyNumbers, PolicyState } from './limit-algorithm.ts';
import type { Keyspace } from './operation.ts';
import type { Found } from './reply.ts';

/*
 * The exact sliding window: a log of what was counted when, packed into one string.
 *
 *   header  'W', version 1, head u32, used u32, last u48       16 bytes, big-endian
 *   entry   time u48, units u16                                 8 bytes, times ascending
 *
 * `head` is the index of the first entry that still counts, `used` the units from there on, `last` the latest time
 * seen: a clock that goes back stands still here, so that the order of entries holds. Units of one millisecond
 * share an entry. Expired entries are passed over by moving `head`; once they are half of the string it is written
 * anew, so that trimming costs O(1) on average. Strings of up to CHUNK entries are read and written whole, since
 * one command is cheaper than three.
 *
 * Policy numbers: limit in units, span = window in ms, rate = resolution in ms (times are rounded up to it).
 */
const HEADER = 16;
const ENTRY = 8;
const CHUNK = 128;
const MAX_UNITS = 0xffff;
const MAX_USED = 0xffffffff;

const lua = `
do
  local HEADER, ENTRY, CHUNK, MAX_UNITS, MAX_USED = ${HEADER}, ${ENTRY}, ${CHUNK}, ${MAX_UNITS}, ${MAX_USED}
  local window = {}
  algorithms['w'] = window

  function window.open(key, limit, span, rate)
    local s = { key = key, limit = limit, span = span, rate = rate, found = 0,
                head = 0, used = 0, last = 0, count = 0, first = 0, chunk = '' }
    local raw = redis.pcall('GETRANGE', key, 0, HEADER + ENTRY * CHUNK - 1)
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
        local _
        _, _, s.head, s.used, s.last = struct.unpack('>BBI4I4I6', raw)
        s.count = (size - HEADER) / ENTRY
        s.chunk = string.sub(raw, HEADER + 1)
        if s.head > s.count then
          s.found = 1
          s.head, s.used, s.last, s.count, s.chunk = 0, 0, 0, 0, ''
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

  function window.used(s)
    return s.used
  end

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
    return window.until_freed(s, math.max(1, s.used - s.limit + 1))
  end

  function window.header(s)
    return struct.pack('>BBI4I4I6', 87, 1, s.head, s.used, s.last)
  end

  function window.charge(s, units)
    local stamp = math.ceil(s.now / s.rate) * s.rate
    units = math.min(units, MAX_USED - s.used)
    s.used, s.last = s.used + units, s.now
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
    if from <= CHUNK or s.head * 2 >= from then
      local entries = window.slice(s, s.head, from) .. table.concat(tail)
      s.count, s.head, s.first, s.chunk = from - s.head + #tail, 0, 0, entries
      redis.call('SET', s.key, window.header(s) .. entries, 'PX', ttl)
    else
      s.count, s.first, s.chunk = from + #tail, 0, ''
      redis.call('SETRANGE', s.key, 0, window.header(s))
      redis.call('SETRANGE', s.key, HEADER + from * ENTRY, table.concat(tail))
      redis.call('PEXPIRE', s.key, ttl)
    end
    s.opened = s.head
    return stamp
  end

  function window.refund(s, stamp, units)
    local low, high = s.head, s.count
    while low < high do
      local middle = math.floor((low + high) / 2)
      if window.entry(s, middle) < stamp then low = middle + 1 else high = middle end
    end
    while units > 0 and low < s.count do
      local time, held = window.entry(s, low)
      if time ~= stamp then break end
      local less = math.min(units, held)
      units, s.used = units - less, s.used - less
      redis.call('SETRANGE', s.key, HEADER + low * ENTRY, struct.pack('>I6I2', time, held - less))
      redis.call('SETRANGE', s.key, 0, window.header(s))
      low = low + 1
    end
  end

  function window.settle(s)
    if s.head > s.opened then redis.call('SETRANGE', s.key, 0, window.header(s)) end
  end
end
`;

class WindowState implements PolicyState {
  readonly found: Found;
  readonly #memory: Keyspace;
  readonly #key: string;
  readonly #limit: number;
  readonly #span: number;
  readonly #rate: number;
  readonly #time: number;
  readonly #now: number;
  #value: Buffer;
  #head = 0;
  #used = 0;
  #last = 0;
  #opened: number;

  constructor(memory: Keyspace, key: string, now: number, [limit, span, rate]: PolicyNumbers) {
    this.#memory = memory;
    this.#key = key;
    this.#limit = limit;
    this.#span = span;
    this.#rate = rate;
    this.#time = now;
    const value = memory.get(key);
    this.found = inspect(value);
    this.#value = value !== undefined && this.found === 'fine' ? value : Buffer.alloc(HEADER);
    if (value !== undefined && this.found === 'fine') {
      this.#head = value.readUInt32BE(2);
      this.#used = value.readUInt32BE(6);
      this.#last = value.readUIntBE(10, 6);
    }
    this.#now = Math.max(now, this.#last);
    this.#opened = this.#head;
    while (this.#head < this.#count && this.#timeAt(this.#head) + span <= this.#now) {
      this.#used = Math.max(0, this.#used - this.#unitsAt(this.#head));
      this.#head++;
    }
    if (this.#head === this.#count) this.#used = 0;
  }

  get #count(): number {
    return (this.#value.length - HEADER) / ENTRY;
  }

  #timeAt(index: number): number {
    return this.#value.readUIntBE(HEADER + index * ENTRY, 6);
  }

  #unitsAt(index: number): number {
    return this.#value.readUInt16BE(HEADER + index * ENTRY + 6);
  }

  used(): number {
    return this.#used;
  }

  #untilFreed(units: number): number {
    let freeAt = this.#now;
    for (let index = this.#head; units > 0 && index < this.#count; index++) {
      units -= this.#unitsAt(index);
      freeAt = this.#timeAt(index) + this.#span;
    }
    return freeAt - this.#time;
  }

  waitFor(cost: number): number {
    if (cost > this.#limit) return -1;
    return this.#used + cost <= this.#limit ? 0 : this.#untilFreed(this.#used + cost - this.#limit);
  }

  untilMore(): number {
    return this.#used === 0 ? 0 : this.#untilFreed(Math.max(1, this.#used - this.#limit + 1));
  }

  charge(wanted: number): number {
    let stamp = Math.ceil(this.#now / this.#rate) * this.#rate;
    let units = Math.min(wanted, MAX_USED - this.#used);
    this.#used += units;
    this.#last = this.#now;
    let from = this.#count;
    const tail: Buffer[] = [];
    if (from > this.#head) {
      const time = this.#timeAt(from - 1);
      const held = this.#unitsAt(from - 1);
      stamp = Math.max(stamp, time);
      if (time === stamp && held < MAX_UNITS && units > 0) {
        const more = Math.min(units, MAX_UNITS - held);
        from--;
        units -= more;
        tail.push(packEntry(time, held + more));
      }
    }
    for (; units > 0; units -= Math.min(units, MAX_UNITS))
      tail.push(packEntry(stamp, Math.min(units, MAX_UNITS)));
    const start = from <= CHUNK || this.#head * 2 >= from ? this.#head : 0;
    const live = this.#value.subarray(HEADER + start * ENTRY, HEADER + from * ENTRY);
    this.#head -= start;
    this.#opened = this.#head;
    this.#value = Buffer.concat([this.#header(), live, ...tail]);
    this.#memory.set(this.#key, this.#value, stamp + this.#span - this.#time);
    return stamp;
  }

  refund(stamp: number, wanted: number): void {
    let units = wanted;
    for (let index = this.#head; index < this.#count && units > 0; index++) {
      if (this.#timeAt(index) !== stamp) continue;
      const held = this.#unitsAt(index);
      const less = Math.min(units, held);
      units -= less;
      this.#used -= less;
      this.#value = Buffer.from(this.#value);
      this.#value.writeUInt16BE(held - less, HEADER + index * ENTRY + 6);
      this.#rewriteHeader();
    }
  }

  settle(): void {
    if (this.#head > this.#opened) this.#rewriteHeader();
  }

  #header(): Buffer {
    const header = Buffer.alloc(HEADER);
    header[0] = 0x57;
    header[1] = 1;
    header.writeUInt32BE(this.#head, 2);
    header.writeUInt32BE(this.#used, 6);
    header.writeUIntBE(this.#last, 10, 6);
    return header;
  }

  #rewriteHeader(): void {
    this.#value = Buffer.concat([this.#header(), this.#value.subarray(HEADER)]);
    this.#memory.rewrite(this.#key, this.#value);
  }
}

function packEntry(time: number, units: number): Buffer {
  const entry = Buffer.alloc(ENTRY);
  entry.writeUIntBE(time, 0, 6);
  entry.writeUInt16BE(units, 6);
  return entry;
}

function inspect(value: Buffer | undefined): Found {
  if (value === undefined) return 'fine';
  const version = value[1];
  if (value[0] !== 0x57 || version === undefined) return 'corrupt';
  if (version > 1) return 'newer';
  if (version < 1 || value.length < HEADER || (value.length - HEADER) % ENTRY !== 0) return 'corrupt';
  return value.readUInt32BE(2) > (value.length - HEADER) / ENTRY ? 'corrupt' : 'fine';
}

export const slidingWindow: LimitAlgorithm = {
  code: 'w',
  lua,
  open: (memory, key, now, numbers) => new WindowState(memory, key, now, numbers),
};
