import type { Keyspace } from '../../engine/operation.ts';
import type { StoredFormat } from '../../engine/reply.ts';
import type { AlgorithmLua, Charge, LimitAlgorithm, PolicyNumbers, PolicyState } from './algorithm.ts';
import { type BucketLedger, BYTES, MAX, MAX_RANGES, parseLedger, RANGE_BYTES } from './bucket-ledger.ts';

/*
 * The token bucket in whole numbers, refilled continuously. One token is `interval` grains, and `rate` grains come back
 * every millisecond, so that no amount is a fraction. The grains that were charged since the bucket was last full are
 * numbered from 0 on, and refilling pays them in that order. A refund removes the grains of its charge that are not
 * paid yet, in any order and at any time, and so never returns more than is still owed. bucket-ledger.ts describes the
 * stored format.
 *
 * An absent key is a full bucket. While the clock is behind `at`, no grains are paid. The interval is stored so that the
 * debt can be converted when the policy changes. The conversion starts a new numbering, and so does a charge that would
 * exceed MAX. The caller keeps limit * interval at 2^51 or below, so that every sum is exact.
 *
 * Policy numbers: limit = capacity in tokens, span = interval in ms, rate = tokens that come back per interval.
 */
const NUMBERS = "'>BBI8I8I8I8I8'";
const RANGE = "'>I8I8'";

const SKIP_REFUNDED = /* lua */ `
while refunded and refunded[1] and refunded[1][1] <= paid do
  paid = refunded[1][2]
  table.remove(refunded, 1)
end`;

/* Reads `raw`. Sets `interval` to nil for a value that cannot be read. */
const PARSE = /* lua */ `
local interval
if type(raw) ~= 'string' then
  interval = nil
elseif string.sub(raw, 1, 2) == '2:' then
  if #raw >= ${BYTES} and (#raw - ${BYTES}) % ${RANGE_BYTES} == 0 then
    local _
    _, _, started, paid, charges, at, interval = struct.unpack(${NUMBERS}, raw)
    if #raw > ${BYTES} then
      refunded = {}
      for from = ${BYTES + 1}, #raw, ${RANGE_BYTES} do
        refunded[#refunded + 1] = { struct.unpack(${RANGE}, raw, from) }
      end
    end
  end
else
  local version = tonumber(string.match(raw, '^(%d+):') or '')
  if version and version > 2 then found = 2 end
  local list
  started, paid, charges, at, interval, list =
    string.match(raw, '^1:(%d+):(%d+):(%d+):(%d+):(%d+):([%d,%-]*);$')
  if interval then
    started, paid, charges, at, interval = started + 0, paid + 0, charges + 0, at + 0, interval + 0
    refunded = {}
    for from, to in string.gmatch(list, '(%d+)%-(%d+)') do refunded[#refunded + 1] = { from + 0, to + 0 } end
  end
end`;

const SAVE = /* lua */ `
local value = struct.pack(${NUMBERS}, 50, 58, started, paid, charges, at, span)
if refunded then
  local list = { value }
  for i, range in ipairs(refunded) do list[i + 1] = struct.pack(${RANGE}, range[1], range[2]) end
  value = table.concat(list)
end
redis.call('SET', key, value, 'PX', string.format('%d', math.ceil(owed / rate) + at - now))`;

/* `charges` is the end of the charged grains. `refunded` is the list of refunded ranges, or nil. */
const lua: AlgorithmLua = {
  state: ['started', 'paid', 'charges', 'owed', 'at', 'refunded'],

  helpers: '',

  open: /* lua */ `
started, paid, charges, owed, at = now, 0, 0, 0, now
local raw = read('GET', key)
if raw then
  ${PARSE}
  if interval and (interval == 0 or paid > charges or
      started > ${MAX} or charges > ${MAX} or at > ${MAX} or interval > ${MAX}) then
    interval = nil
  end
  if interval then owed = charges - paid end
  if interval and refunded then
    local last = paid
    for _, range in ipairs(refunded) do
      if range[1] < last or range[2] <= range[1] or range[2] > charges then interval = nil break end
      owed, last = owed - (range[2] - range[1]), range[2]
    end
  end
  if not interval then
    if found == 0 then found = 1 end
    started, paid, charges, owed, at, refunded = now, 0, 0, 0, now, nil
  elseif interval ~= span then
    local tokens = math.floor(owed / interval)
    owed = math.min(${MAX}, tokens * span + math.ceil((owed - tokens * interval) * span / interval))
    started, paid, charges, refunded = now, 0, owed, nil
  end
  ${SKIP_REFUNDED}
end
if now > at then
  local grains = (now - at) * rate
  at = now
  while grains > 0 and owed > 0 do
    local step = (refunded and refunded[1] and refunded[1][1] or charges) - paid
    if step > grains then step = grains end
    paid, owed, grains = paid + step, owed - step, grains - step
    ${SKIP_REFUNDED}
  end
end
if owed == 0 then started, paid, charges, refunded = now, 0, 0, nil end`,

  wait: /* lua */ `
local surplus = owed - (limit - cost) * span
wait = cost > limit and -1 or surplus > 0 and math.ceil(surplus / rate) + at - now or 0`,

  charge: /* lua */ `
local most = (refused and math.max(owed, limit * span) or ${MAX}) - owed
local grains = cost * span
if grains > most then grains = most end
if charges + grains > ${MAX} then started, paid, charges, refunded = now, 0, owed, nil end
stamp, position, charged = started, charges, true
charges, owed = charges + grains, owed + grains`,

  skip: /* lua */ `
local idle = math.min((due - at) * rate, ${MAX}) - owed
if idle > 0 then
  if charges + idle > ${MAX} then started, paid, charges, refunded = now, 0, owed, nil end
  charges, owed = charges + idle, owed + idle
end`,

  result: /* lua */ `
counted = math.ceil(owed / span)
if owed > 0 then
  local tokens = counted < limit and counted or limit
  if tokens > 0 then tokens = tokens - 1 end
  reset = math.ceil((owed - tokens * span) / rate) + at - now
end`,

  save: /* lua */ `if charged and owed > 0 then ${SAVE} end`,

  refund: /* lua */ `
local from, to = math.max(position, paid), math.min(position + units * span, charges)
local gained, list = stamp == started and to - from or 0, {}
if gained > 0 then
  for _, range in ipairs(refunded or {}) do
    if range[2] < from or range[1] > to then
      list[#list + 1] = range
    else
      gained = gained - math.max(0, math.min(to, range[2]) - math.max(from, range[1]))
      from, to = math.min(from, range[1]), math.max(to, range[2])
    end
  end
end
if gained > 0 then
  owed = owed - gained
  if #list < ${MAX_RANGES} then
    list[#list + 1] = { from, to }
    table.sort(list, function(one, other) return one[1] < other[1] end)
    refunded = list
  else
    while gained > 0 do
      local last = refunded[#refunded] or { paid, paid }
      local step = math.min(gained, charges - last[2])
      charges, gained = charges - step, gained - step
      if charges == last[2] then
        charges = last[1]
        table.remove(refunded)
      end
    end
  end
  ${SKIP_REFUNDED}
  if owed == 0 then
    redis.call('DEL', key)
  else
    ${SAVE}
  end
end`,
};

class BucketState implements PolicyState {
  readonly found: StoredFormat;
  readonly #memory: Keyspace;
  readonly #key: string;
  readonly #numbers: PolicyNumbers;
  readonly #now: number;
  #ledger: BucketLedger;
  #isCharged = false;

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

  turnMs(cost: number): number {
    return this.waitMs(cost);
  }

  skipTo(due: number): void {
    const { at, owed } = this.#ledger;
    const idle = Math.min((due - at) * this.#numbers[2], MAX) - owed;
    if (idle > 0) this.#add(idle);
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
    const position = this.#add(grains);
    this.#isCharged = true;
    return { stamp: this.#ledger.started, position };
  }

  /** Adds grains to the debt, and returns the number of the first. */
  #add(grains: number): number {
    if (this.#ledger.charged + grains > MAX) {
      this.#ledger = this.#ledger.restart(this.#now, this.#ledger.owed);
    }
    const position = this.#ledger.charged;
    this.#ledger.charged += grains;
    this.#ledger.owed += grains;
    return position;
  }

  refund({ stamp, position }: Charge, units: number): void {
    const ledger = this.#ledger;
    if (stamp !== ledger.started || !ledger.refund(position, position + units * this.#numbers[1])) return;
    if (ledger.owed === 0) this.#memory.delete(this.#key);
    else this.#store();
  }

  refuse(): void {
    // Only an allowed request changes a bucket.
  }

  save(): void {
    if (this.#isCharged && this.#ledger.owed > 0) this.#store();
  }

  #store(): void {
    this.#memory.set(this.#key, this.#ledger.pack(this.#numbers[1]), this.#msUntilOwed(0));
  }
}

export const tokenBucket: LimitAlgorithm = {
  code: 'b',
  lua,
  open: (memory, key, now, numbers) => new BucketState(memory, key, now, numbers),
};
