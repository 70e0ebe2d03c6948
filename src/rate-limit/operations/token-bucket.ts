import type { Keyspace } from '../../engine/operation.ts';
import type { StoredFormat } from '../../engine/reply.ts';
import type { Charge, LimitAlgorithm, PolicyNumbers, PolicyState } from './algorithm.ts';
import { type PaidLine, parseLine } from './bucket-line.ts';

/*
 * The token bucket in whole numbers, refilled continuously. One token is `interval` grains, and `rate` grains flow
 * back every millisecond, so nothing is ever a fraction. Every grain that was charged since the bucket was last full
 * has its place on a line and is paid in that order; a refund cuts out what is not paid yet. So a grant can be given
 * back in any order, at any time, and never more of it than is still owed.
 *
 *   '1:<life>:<paid>:<charged>:<at>:<interval>:<cut>;'
 *
 * 1 is the format's version; `life` the ms in which the line began, `paid` and `charged` how far along it payment and
 * charges have come at the ms `at`, `cut` the pieces between them that were given back ('5-8,11-12'). An absent key is
 * a full bucket. A clock that goes back refills nothing and takes nothing. The interval is stored so that a changed
 * policy can convert the debt of the old one; that begins a new line, as does a line that has grown too long. The
 * caller keeps limit * interval below 2^51, so that every sum here is exact.
 *
 * Policy numbers: limit = capacity in tokens, span = interval in ms, rate = tokens that come back per interval.
 */
const MAX = 2 ** 52;

/**
 * So many pieces are noted, so that values stay short. Beyond them a refund takes its grains from the end of the line:
 * as much is owed as should be, and later refunds of those who stood there find so much less to give back.
 */
const MAX_CUTS = 256;

const lua = `
do
  local MAX, MAX_CUTS = ${MAX}, ${MAX_CUTS}
  local bucket = {}
  algorithms['b'] = bucket

  function bucket.open(key, limit, span, rate)
    local s = { key = key, limit = limit, span = span, rate = rate, found = 0 }
    bucket.begin(s, now, 0)
    local raw = read('GET', key)
    if raw then bucket.parse(s, raw) end
    if now > s.at then
      local grains = (now - s.at) * rate
      s.at = now
      while grains > 0 and s.owed > 0 do
        local step = math.min(grains, (s.cut[1] and s.cut[1][1] or s.charged) - s.paid)
        s.paid, s.owed, grains = s.paid + step, s.owed - step, grains - step
        bucket.skip(s)
      end
    end
    if s.owed == 0 then bucket.begin(s, s.at, 0) end
    return s
  end

  function bucket.begin(s, at, owed)
    s.life, s.paid, s.charged, s.owed, s.at, s.cut = now, 0, owed, owed, at, {}
  end

  function bucket.parse(s, raw)
    s.found = 1
    if type(raw) ~= 'string' then return end
    local version = tonumber(string.match(raw, '^(%d+):') or '')
    if version and version > 1 then s.found = 2 return end
    local life, paid, charged, at, interval, list =
      string.match(raw, '^1:(%d+):(%d+):(%d+):(%d+):([1-9]%d*):([%d,%-]*);$')
    if not life then return end
    life, paid, charged, at, interval = tonumber(life), tonumber(paid), tonumber(charged), tonumber(at), tonumber(interval)
    if math.max(life, charged, at, interval) > MAX or paid > charged then return end
    local cut, spelled, last, owed = {}, {}, paid, charged - paid
    for a, b in string.gmatch(list, '(%d+)%-(%d+)') do
      a, b = tonumber(a), tonumber(b)
      if a < last or b <= a or b > charged then return end
      cut[#cut + 1], spelled[#spelled + 1] = { a, b }, string.format('%.0f-%.0f', a, b)
      last, owed = b, owed - (b - a)
    end
    if table.concat(spelled, ',') ~= list then return end
    s.found, s.life, s.paid, s.charged, s.at, s.cut, s.owed = 0, life, paid, charged, at, cut, owed
    if interval ~= s.span then
      local tokens = math.floor(owed / interval)
      bucket.begin(s, at, math.min(MAX, tokens * s.span + math.ceil((owed - tokens * interval) * s.span / interval)))
    end
    bucket.skip(s)
  end

  function bucket.skip(s)
    while s.cut[1] and s.cut[1][1] <= s.paid do
      s.paid = s.cut[1][2]
      table.remove(s.cut, 1)
    end
  end

  function bucket.used(s) return math.ceil(s.owed / s.span) end

  function bucket.until_owed(s, owed)
    if s.owed <= owed then return 0 end
    return math.ceil((s.owed - owed) / s.rate) + s.at - now
  end

  function bucket.wait_for(s, cost)
    if cost > s.limit then return -1 end
    return bucket.until_owed(s, (s.limit - cost) * s.span)
  end

  function bucket.until_more(s)
    if s.owed == 0 then return 0 end
    return bucket.until_owed(s, math.max(0, math.min(bucket.used(s), s.limit) - 1) * s.span)
  end

  function bucket.save(s)
    local list = {}
    for i, piece in ipairs(s.cut) do list[i] = string.format('%.0f-%.0f', piece[1], piece[2]) end
    redis.call('SET', s.key, string.format('1:%.0f:%.0f:%.0f:%.0f:%.0f:%s;', s.life, s.paid, s.charged, s.at, s.span,
      table.concat(list, ',')), 'PX', bucket.until_owed(s, 0))
  end

  function bucket.charge(s, units, refused)
    local most = refused and math.max(s.owed, s.limit * s.span) or MAX
    local grains = math.min(units * s.span, most - s.owed)
    if s.charged + grains > MAX then bucket.begin(s, s.at, s.owed) end
    local from = s.charged
    s.charged, s.owed = from + grains, s.owed + grains
    if s.owed > 0 then bucket.save(s) end
    return s.life, from
  end

  function bucket.refund(s, life, from, units)
    if life ~= s.life then return end
    local a, b, list, gained = math.max(from, s.paid), math.min(from + units * s.span, s.charged), {}, 0
    if a >= b then return end
    gained = b - a
    for _, piece in ipairs(s.cut) do
      if piece[2] < a or piece[1] > b then
        list[#list + 1] = piece
      else
        gained = gained - math.max(0, math.min(b, piece[2]) - math.max(a, piece[1]))
        a, b = math.min(a, piece[1]), math.max(b, piece[2])
      end
    end
    if gained <= 0 then return end
    s.owed = s.owed - gained
    if #list < MAX_CUTS then
      list[#list + 1] = { a, b }
      table.sort(list, function(one, other) return one[1] < other[1] end)
      s.cut = list
    else
      bucket.shorten(s, gained)
    end
    bucket.skip(s)
    if s.owed == 0 then redis.call('DEL', s.key) else bucket.save(s) end
  end

  function bucket.shorten(s, grains)
    while grains > 0 do
      local last = s.cut[#s.cut] or { s.paid, s.paid }
      local step = math.min(grains, s.charged - last[2])
      s.charged, grains = s.charged - step, grains - step
      if s.charged == last[2] then
        s.charged = last[1]
        table.remove(s.cut)
      end
    end
  end

  function bucket.settle() end
end
`;

class BucketState implements PolicyState {
  readonly found: StoredFormat;
  readonly #memory: Keyspace;
  readonly #key: string;
  readonly #numbers: PolicyNumbers;
  readonly #now: number;
  #line: PaidLine;

  constructor(memory: Keyspace, key: string, now: number, numbers: PolicyNumbers) {
    this.#memory = memory;
    this.#key = key;
    this.#numbers = numbers;
    this.#now = now;
    const [, span, rate] = numbers;
    const { found, line } = parseLine(memory.get(key), now, span, MAX);
    this.found = found;
    this.#line = line;
    if (now > line.at) line.pay((now - line.at) * rate, now);
    if (line.owed === 0) this.#line = line.next(now, 0);
  }

  used(): number {
    return Math.ceil(this.#line.owed / this.#numbers[1]);
  }

  #untilOwed(owed: number): number {
    const line = this.#line;
    return line.owed <= owed ? 0 : Math.ceil((line.owed - owed) / this.#numbers[2]) + line.at - this.#now;
  }

  waitFor(cost: number): number {
    const [limit, span] = this.#numbers;
    return cost > limit ? -1 : this.#untilOwed((limit - cost) * span);
  }

  untilMore(): number {
    const [limit, span] = this.#numbers;
    if (this.#line.owed === 0) return 0;
    return this.#untilOwed(Math.max(0, Math.min(this.used(), limit) - 1) * span);
  }

  charge(units: number, isRefused: boolean): Charge {
    const [limit, span] = this.#numbers;
    const most = isRefused ? Math.max(this.#line.owed, limit * span) : MAX;
    const grains = Math.min(units * span, most - this.#line.owed);
    if (this.#line.charged + grains > MAX) this.#line = this.#line.next(this.#now, this.#line.owed);
    const position = this.#line.charged;
    this.#line.charged += grains;
    this.#line.owed += grains;
    if (this.#line.owed > 0) this.#save();
    return { stamp: this.#line.life, position };
  }

  refund({ stamp, position }: Charge, units: number): void {
    const line = this.#line;
    if (stamp !== line.life || !line.cutOut(position, position + units * this.#numbers[1], MAX_CUTS)) return;
    if (line.owed === 0) this.#memory.delete(this.#key);
    else this.#save();
  }

  settle(): void {
    // A bucket's evaluation is arithmetic on what is stored; there is nothing to remember.
  }

  #save(): void {
    this.#memory.set(this.#key, this.#line.pack(this.#numbers[1]), this.#untilOwed(0));
  }
}

export const tokenBucket: LimitAlgorithm = {
  code: 'b',
  lua,
  open: (memory, key, now, numbers) => new BucketState(memory, key, now, numbers),
};
