import type { LimitAlgorithm, PolicyNumbers, PolicyState } from './limit-algorithm.ts';
import type { Keyspace } from './operation.ts';
import type { Found } from './reply.ts';

/*
 * The token bucket in whole numbers, refilled continuously. One token is `interval` grains, and `tokens` grains
 * flow back every millisecond, so nothing is ever a fraction. What is stored is the debt, in grains, at a time:
 *
 *   '1:<debt>:<at>:<interval>;'       1 is the format's version; an absent key is a full bucket
 *
 * The semicolon tells a whole value from one that was cut short. A clock that goes back refills nothing and takes
 * nothing. The interval is stored so that a changed policy can convert the debt of the old one. The caller keeps
 * limit * interval below 2^51, so that every sum here is exact.
 *
 * Policy numbers: limit = capacity in tokens, span = interval in ms, rate = tokens that come back per interval.
 */
const MAX_DEBT = 2 ** 52;

const lua = `
do
  local MAX_DEBT = ${MAX_DEBT}
  local bucket = {}
  algorithms['b'] = bucket

  function bucket.open(key, limit, span, rate)
    local s = { key = key, limit = limit, span = span, rate = rate, found = 0, debt = 0, at = now }
    local raw = read('GET', key)
    if type(raw) == 'table' then
      s.found = 1
    elseif raw then
      local version = tonumber(string.match(raw, '^(%d+):') or '')
      local debt, at, interval = string.match(raw, '^1:(%d+):(%d+):([1-9]%d*);$')
      debt, at, interval = tonumber(debt or ''), tonumber(at or ''), tonumber(interval or '')
      if version and version > 1 then
        s.found = 2
      elseif not debt or math.max(debt, at, interval) > MAX_DEBT then
        s.found = 1
      else
        s.debt, s.at = debt, at
        if interval ~= span then
          local tokens = math.floor(s.debt / interval)
          s.debt = tokens * span + math.ceil((s.debt - tokens * interval) * span / interval)
        end
        if now > s.at then
          s.debt = math.max(0, s.debt - (now - s.at) * rate)
          s.at = now
        end
      end
    end
    return s
  end

  function bucket.used(s)
    return math.ceil(s.debt / s.span)
  end

  function bucket.until_debt(s, debt)
    if s.debt <= debt then return 0 end
    return math.ceil((s.debt - debt) / s.rate) + s.at - now
  end

  function bucket.wait_for(s, cost)
    if cost > s.limit then return -1 end
    return bucket.until_debt(s, (s.limit - cost) * s.span)
  end

  function bucket.until_more(s)
    if s.debt == 0 then return 0 end
    return bucket.until_debt(s, math.max(0, math.min(bucket.used(s), s.limit) - 1) * s.span)
  end

  function bucket.save(s)
    if s.debt == 0 then return redis.call('DEL', s.key) end
    local ttl = math.ceil(s.debt / s.rate) + s.at - now
    redis.call('SET', s.key, string.format('1:%.0f:%.0f:%.0f;', s.debt, s.at, s.span), 'PX', ttl)
  end

  function bucket.charge(s, units, refused)
    local most = refused and math.max(s.debt, s.limit * s.span) or MAX_DEBT
    s.debt = math.min(s.debt + units * s.span, most)
    bucket.save(s)
    return s.at + math.floor(s.debt / s.rate)
  end

  function bucket.refund(s, stamp, units)
    local owed = math.min(units * s.span, s.debt, math.max(0, (stamp - s.at) * s.rate))
    if owed == 0 then return end
    s.debt = s.debt - owed
    bucket.save(s)
  end

  function bucket.settle()
  end
end
`;

class BucketState implements PolicyState {
  readonly found: Found;
  readonly #memory: Keyspace;
  readonly #key: string;
  readonly #limit: number;
  readonly #span: number;
  readonly #rate: number;
  readonly #now: number;
  #debt = 0;
  #at: number;

  constructor(memory: Keyspace, key: string, now: number, [limit, span, rate]: PolicyNumbers) {
    this.#memory = memory;
    this.#key = key;
    this.#limit = limit;
    this.#span = span;
    this.#rate = rate;
    this.#now = now;
    this.#at = now;
    const stored = inspect(memory.get(key));
    this.found = stored.found;
    if (stored.interval === 0) return;
    this.#debt = stored.debt;
    this.#at = stored.at;
    if (stored.interval !== span) {
      const tokens = Math.floor(stored.debt / stored.interval);
      this.#debt =
        tokens * span + Math.ceil(((stored.debt - tokens * stored.interval) * span) / stored.interval);
    }
    if (now > this.#at) {
      this.#debt = Math.max(0, this.#debt - (now - this.#at) * rate);
      this.#at = now;
    }
  }

  used(): number {
    return Math.ceil(this.#debt / this.#span);
  }

  #untilDebt(debt: number): number {
    return this.#debt <= debt ? 0 : Math.ceil((this.#debt - debt) / this.#rate) + this.#at - this.#now;
  }

  waitFor(cost: number): number {
    return cost > this.#limit ? -1 : this.#untilDebt((this.#limit - cost) * this.#span);
  }

  untilMore(): number {
    const fewer = Math.max(0, Math.min(this.used(), this.#limit) - 1);
    return this.#debt === 0 ? 0 : this.#untilDebt(fewer * this.#span);
  }

  charge(units: number, isRefused: boolean): number {
    const most = isRefused ? Math.max(this.#debt, this.#limit * this.#span) : MAX_DEBT;
    this.#debt = Math.min(this.#debt + units * this.#span, most);
    this.#save();
    return this.#at + Math.floor(this.#debt / this.#rate);
  }

  /** Debts are paid off in the order in which they were made: a charge is paid in full at its stamp. */
  refund(stamp: number, units: number): void {
    const owed = Math.min(units * this.#span, this.#debt, Math.max(0, (stamp - this.#at) * this.#rate));
    if (owed === 0) return;
    this.#debt -= owed;
    this.#save();
  }

  settle(): void {
    // A bucket's evaluation is arithmetic on what is stored; there is nothing to remember.
  }

  #save(): void {
    if (this.#debt === 0) {
      this.#memory.delete(this.#key);
      return;
    }
    const ttl = Math.ceil(this.#debt / this.#rate) + this.#at - this.#now;
    this.#memory.set(this.#key, Buffer.from(`1:${this.#debt}:${this.#at}:${this.#span};`, 'latin1'), ttl);
  }
}

function inspect(value: Buffer | undefined): { found: Found; debt: number; at: number; interval: number } {
  const nothing = { debt: 0, at: 0, interval: 0 };
  if (value === undefined) return { found: 'fine', ...nothing };
  const text = value.toString('latin1');
  const version = /^(\d+):/.exec(text)?.[1];
  if (version !== undefined && Number(version) > 1) return { found: 'newer', ...nothing };
  const parts = /^1:(\d+):(\d+):([1-9]\d*);$/.exec(text);
  const [debt, at, interval] = [Number(parts?.[1]), Number(parts?.[2]), Number(parts?.[3])];
  return Math.max(debt, at, interval) <= MAX_DEBT
    ? { found: 'fine', debt, at, interval }
    : { found: 'corrupt', ...nothing };
}

export const tokenBucket: LimitAlgorithm = {
  code: 'b',
  lua,
  open: (memory, key, now, numbers) => new BucketState(memory, key, now, numbers),
};
