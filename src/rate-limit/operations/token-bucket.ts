import type { Keyspace } from '../../engine/operation.ts';
import type { StoredFormat } from '../../engine/reply.ts';
import type { Charge, LimitAlgorithm, PolicyNumbers, PolicyState } from './algorithm.ts';
import { type BucketLedger, MAX, MAX_RANGES, parseLedger } from './bucket-ledger.ts';

/*
 * The token bucket in whole numbers, refilled continuously. One token is `interval` grains, and `rate` grains come back
 * every millisecond, so that no amount is a fraction. The grains that were charged since the bucket was last full are
 * numbered from 0 on, and refilling pays them in that order. A refund removes the grains of its charge that are not
 * paid yet, in any order and at any time, and so never returns more than is still owed.
 *
 *   '1:<started>:<paid>:<charged>:<at>:<interval>:<refunded>;'
 *
 * 1 is the version of the format. `started` is the ms at which the numbering began. At the ms `at`, the grains up to
 * `paid` were paid and those up to `charged` were charged; `refunded` lists the refunded ranges between `paid` and
 * `charged` ('5-8,11-12'). An absent key is a full bucket. While the clock is behind `at`, no grains are paid. The
 * interval is stored so that the debt can be converted when the policy changes. The conversion starts a new numbering,
 * and so does a charge that would exceed MAX. The caller keeps limit * interval at 2^51 or below, so that every sum is
 * exact.
 *
 * Policy numbers: limit = capacity in tokens, span = interval in ms, rate = tokens that come back per interval.
 */
const lua = /* lua */ `
do
  local MAX, MAX_RANGES = ${MAX}, ${MAX_RANGES}
  local bucket = {}
  algorithms['b'] = bucket

  function bucket.open(key, limit, span, rate)
    local s = { key = key, limit = limit, span = span, rate = rate, found = 0 }
    bucket.restart(s, now, 0)
    local raw = read('GET', key)
    if raw then bucket.parse(s, raw) end
    if now > s.at then
      local grains = (now - s.at) * rate
      s.at = now
      while grains > 0 and s.owed > 0 do
        local step = math.min(grains, (s.refunded[1] and s.refunded[1][1] or s.charged) - s.paid)
        s.paid, s.owed, grains = s.paid + step, s.owed - step, grains - step
        bucket.skip_refunded(s)
      end
    end
    if s.owed == 0 then bucket.restart(s, s.at, 0) end
    return s
  end

  function bucket.restart(s, at, owed)
    s.started, s.paid, s.charged, s.owed, s.at, s.refunded = now, 0, owed, owed, at, {}
  end

  function bucket.parse(s, raw)
    s.found = 1
    if type(raw) ~= 'string' then return end
    local version = tonumber(string.match(raw, '^(%d+):') or '')
    if version and version > 1 then s.found = 2 return end
    local started, paid, charged, at, interval, list =
      string.match(raw, '^1:(%d+):(%d+):(%d+):(%d+):([1-9]%d*):([%d,%-]*);$')
    if not started then return end
    started, paid, charged, at, interval = tonumber(started), tonumber(paid), tonumber(charged), tonumber(at), tonumber(interval)
    if math.max(started, charged, at, interval) > MAX or paid > charged then return end
    local refunded, spelled, last, owed = {}, {}, paid, charged - paid
    for a, b in string.gmatch(list, '(%d+)%-(%d+)') do
      a, b = tonumber(a), tonumber(b)
      if a < last or b <= a or b > charged then return end
      refunded[#refunded + 1], spelled[#spelled + 1] = { a, b }, string.format('%.0f-%.0f', a, b)
      last, owed = b, owed - (b - a)
    end
    if table.concat(spelled, ',') ~= list then return end
    s.found, s.started, s.paid, s.charged, s.at, s.refunded, s.owed = 0, started, paid, charged, at, refunded, owed
    if interval ~= s.span then
      local tokens = math.floor(owed / interval)
      bucket.restart(s, at, math.min(MAX, tokens * s.span + math.ceil((owed - tokens * interval) * s.span / interval)))
    end
    bucket.skip_refunded(s)
  end

  function bucket.skip_refunded(s)
    while s.refunded[1] and s.refunded[1][1] <= s.paid do
      s.paid = s.refunded[1][2]
      table.remove(s.refunded, 1)
    end
  end

  function bucket.used(s) return math.ceil(s.owed / s.span) end

  function bucket.ms_until_owed(s, owed)
    if s.owed <= owed then return 0 end
    return math.ceil((s.owed - owed) / s.rate) + s.at - now
  end

  function bucket.wait_ms(s, cost)
    if cost > s.limit then return -1 end
    return bucket.ms_until_owed(s, (s.limit - cost) * s.span)
  end

  function bucket.reset_ms(s)
    if s.owed == 0 then return 0 end
    return bucket.ms_until_owed(s, math.max(0, math.min(bucket.used(s), s.limit) - 1) * s.span)
  end

  function bucket.save(s)
    local list = {}
    for i, range in ipairs(s.refunded) do list[i] = string.format('%.0f-%.0f', range[1], range[2]) end
    redis.call('SET', s.key, string.format('1:%.0f:%.0f:%.0f:%.0f:%.0f:%s;', s.started, s.paid, s.charged, s.at, s.span,
      table.concat(list, ',')), 'PX', bucket.ms_until_owed(s, 0))
  end

  function bucket.charge(s, units, refused)
    local most = refused and math.max(s.owed, s.limit * s.span) or MAX
    local grains = math.min(units * s.span, most - s.owed)
    if s.charged + grains > MAX then bucket.restart(s, s.at, s.owed) end
    local from = s.charged
    s.charged, s.owed = from + grains, s.owed + grains
    if s.owed > 0 then bucket.save(s) end
    return s.started, from
  end

  function bucket.refund(s, started, from, units)
    if started ~= s.started then return end
    local a, b, list, gained = math.max(from, s.paid), math.min(from + units * s.span, s.charged), {}, 0
    if a >= b then return end
    gained = b - a
    for _, range in ipairs(s.refunded) do
      if range[2] < a or range[1] > b then
        list[#list + 1] = range
      else
        gained = gained - math.max(0, math.min(b, range[2]) - math.max(a, range[1]))
        a, b = math.min(a, range[1]), math.max(b, range[2])
      end
    end
    if gained <= 0 then return end
    s.owed = s.owed - gained
    if #list < MAX_RANGES then
      list[#list + 1] = { a, b }
      table.sort(list, function(one, other) return one[1] < other[1] end)
      s.refunded = list
    else
      bucket.shorten(s, gained)
    end
    bucket.skip_refunded(s)
    if s.owed == 0 then redis.call('DEL', s.key) else bucket.save(s) end
  end

  function bucket.shorten(s, grains)
    while grains > 0 do
      local last = s.refunded[#s.refunded] or { s.paid, s.paid }
      local step = math.min(grains, s.charged - last[2])
      s.charged, grains = s.charged - step, grains - step
      if s.charged == last[2] then
        s.charged = last[1]
        table.remove(s.refunded)
      end
    end
  end

  function bucket.visit() end
end
`;

class BucketState implements PolicyState {
  readonly found: StoredFormat;
  readonly #memory: Keyspace;
  readonly #key: string;
  readonly #numbers: PolicyNumbers;
  readonly #now: number;
  #ledger: BucketLedger;

  constructor(memory: Keyspace, key: string, now: number, numbers: PolicyNumbers) {
    this.#memory = memory;
    this.#key = key;
    this.#numbers = numbers;
    this.#now = now;
    const [, span, rate] = numbers;
    const { found, ledger } = parseLedger(memory.get(key), now, span);
    this.found = found;
    this.#ledger = ledger;
    if (now > ledger.at) ledger.pay((now - ledger.at) * rate, now);
    if (ledger.owed === 0) this.#ledger = ledger.restart(now, 0);
  }

  used(): number {
    return Math.ceil(this.#ledger.owed / this.#numbers[1]);
  }

  #msUntilOwed(owed: number): number {
    const ledger = this.#ledger;
    if (ledger.owed <= owed) return 0;
    return Math.ceil((ledger.owed - owed) / this.#numbers[2]) + ledger.at - this.#now;
  }

  waitMs(cost: number): number {
    const [limit, span] = this.#numbers;
    return cost > limit ? -1 : this.#msUntilOwed((limit - cost) * span);
  }

  resetMs(): number {
    const [limit, span] = this.#numbers;
    if (this.#ledger.owed === 0) return 0;
    return this.#msUntilOwed(Math.max(0, Math.min(this.used(), limit) - 1) * span);
  }

  charge(units: number, isRefused: boolean): Charge {
    const [limit, span] = this.#numbers;
    const most = isRefused ? Math.max(this.#ledger.owed, limit * span) : MAX;
    const grains = Math.min(units * span, most - this.#ledger.owed);
    if (this.#ledger.charged + grains > MAX)
      this.#ledger = this.#ledger.restart(this.#now, this.#ledger.owed);
    const position = this.#ledger.charged;
    this.#ledger.charged += grains;
    this.#ledger.owed += grains;
    if (this.#ledger.owed > 0) this.#save();
    return { stamp: this.#ledger.started, position };
  }

  refund({ stamp, position }: Charge, units: number): void {
    const ledger = this.#ledger;
    if (stamp !== ledger.started || !ledger.refund(position, position + units * this.#numbers[1])) return;
    if (ledger.owed === 0) this.#memory.delete(this.#key);
    else this.#save();
  }

  visit(): void {
    // A bucket has no entries that expire.
  }

  #save(): void {
    this.#memory.set(this.#key, this.#ledger.pack(this.#numbers[1]), this.#msUntilOwed(0));
  }
}

export const tokenBucket: LimitAlgorithm = {
  code: 'b',
  lua,
  open: (memory, key, now, numbers) => new BucketState(memory, key, now, numbers),
};
