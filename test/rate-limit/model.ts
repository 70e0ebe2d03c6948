/*
 * What the limits promise, written from their definitions and with whole numbers of any size. It shares nothing with
 * the operations but the meaning of their numbers, and it looks at every grant each time instead of keeping sums.
 */

export type Mode = 'take' | 'peek' | 'force' | 'count';

export type Numbers = readonly [limit: bigint, span: bigint, rate: bigint];

export interface ExpectedReply {
  readonly allowed: boolean;
  readonly used: number;
  readonly waitMs: number;
  readonly resetMs: number;
  readonly stamp: number;
  readonly found: 'fine';
}

/** One way of counting. Each call names the time and the limit that it is made with. */
export interface PolicyModel {
  used(time: bigint): bigint;
  /** Whether so much would be granted at the time, if nothing else happened. */
  fits(time: bigint, limit: bigint, cost: bigint): boolean;
  /** The moments, ascending, at which the answer to `fits` can change. */
  moments(time: bigint, limit: bigint, cost: bigint): readonly bigint[];
  /** Counts a grant, or a refused try, and answers the name by which it can be given back. */
  charge(time: bigint, limit: bigint, units: bigint, isRefused: boolean): bigint;
  /** A call that may write, but has nothing to count. */
  visit(time: bigint): void;
  refund(time: bigint, stamp: bigint, units: bigint): void;
  /** The key is gone. */
  clear(): void;
}

/** More units than this are not counted, and so never given back. */
const MOST_UNITS_IN_A_WINDOW = 2n ** 32n - 1n;

/**
 * At most `limit` units in every window (t - W, t]. A grant is made at the time of the server, rounded up to a multiple
 * of the resolution. A clock that goes back stands still at the latest moment of a recorded grant. What a call that
 * may write has found to be outside the window stays outside, whatever the clock does later.
 *
 * A refused try that counts never lowers what is used, nor lifts it above the limit: where both sides are full, the
 * oldest units make room for its own, which is what makes a client wait that never pauses.
 *
 * A refund takes units of that moment out, as far as any are left there.
 */
export class WindowModel implements PolicyModel {
  readonly #span: bigint;
  readonly #resolution: bigint;
  /** Units by the moment when they count as granted, ascending. */
  #granted: { readonly at: bigint; units: bigint }[] = [];
  #latest = 0n;

  constructor([, span, resolution]: Numbers) {
    this.#span = span;
    this.#resolution = resolution;
  }

  used(time: bigint): bigint {
    return this.#within(time).reduce((sum, { units }) => sum + units, 0n);
  }

  fits(time: bigint, limit: bigint, cost: bigint): boolean {
    return this.used(time) + cost <= limit;
  }

  moments(): readonly bigint[] {
    return this.#granted.map(({ at }) => at + this.#span);
  }

  charge(time: bigint, limit: bigint, wanted: bigint, isRefused: boolean): bigint {
    this.visit(time);
    const before = this.used(time);
    const units = least(wanted, isRefused ? limit : MOST_UNITS_IN_A_WINDOW - before);
    const at = roundUp(this.#clock(time), this.#resolution);
    if (isRefused) this.#dropOldest(before + units - greatest(before, limit));
    const sameMoment = this.#granted.find((grant) => grant.at === at);
    if (sameMoment !== undefined) sameMoment.units += units;
    else if (units > 0n) this.#granted.push({ at, units });
    this.#latest = this.#clock(time);
    return at;
  }

  visit(time: bigint): void {
    this.#granted = this.#within(time);
  }

  refund(time: bigint, stamp: bigint, units: bigint): void {
    const grant = this.#within(time).find(({ at }) => at === stamp);
    if (grant === undefined) return;
    grant.units -= least(units, grant.units);
    this.visit(time);
  }

  clear(): void {
    this.#granted = [];
    this.#latest = 0n;
  }

  #clock(time: bigint): bigint {
    return greatest(time, this.#latest);
  }

  #within(time: bigint) {
    const begin = this.#clock(time) - this.#span;
    return this.#granted.filter(({ at }) => at > begin);
  }

  #dropOldest(surplus: bigint): void {
    let left = surplus;
    for (const grant of [...this.#granted]) {
      if (left <= 0n) return;
      const less = least(left, grant.units);
      grant.units -= less;
      left -= less;
      if (grant.units === 0n) this.#granted.shift();
    }
  }
}

/** Debts beyond this many parts of a token are cut off there. */
const MOST_DEBT = 2n ** 52n;

/**
 * A bucket of `limit` tokens into which `rate` tokens flow per `span` ms, continuously and never above its brim. What
 * is missing to the brim is the debt, here in parts of which a token has `span`, so that `rate` parts are paid each ms
 * and nothing is ever rounded. A clock that goes back pays nothing and takes nothing.
 *
 * A refused try that counts empties the bucket at most, and a bucket that is overdrawn stays as it is.
 *
 * Debts are paid in the order in which they were made, so a grant will be paid at a moment that is known when it is
 * made: its stamp, without the broken millisecond. A refund gives back what would be paid from now to then, at most the
 * whole grant, and never above the brim.
 */
export class BucketModel implements PolicyModel {
  readonly #span: bigint;
  readonly #rate: bigint;
  #debt = 0n;
  #at = 0n;

  constructor([, span, rate]: Numbers) {
    this.#span = span;
    this.#rate = rate;
  }

  used(time: bigint): bigint {
    return divideUp(this.#debtAt(time), this.#span);
  }

  fits(time: bigint, limit: bigint, cost: bigint): boolean {
    return this.#debtAt(time) + cost * this.#span <= limit * this.#span;
  }

  /** The debt falls all the time; the first whole millisecond at which it is low enough lies around the quotient. */
  moments(time: bigint, limit: bigint, cost: bigint): readonly bigint[] {
    const parts = this.#debtAt(time) + cost * this.#span - limit * this.#span;
    const around = greatest(time, this.#at) + parts / this.#rate;
    return [around - 2n, around - 1n, around, around + 1n, around + 2n];
  }

  charge(time: bigint, limit: bigint, units: bigint, isRefused: boolean): bigint {
    const debt = this.#debtAt(time);
    const most = isRefused ? greatest(debt, limit * this.#span) : MOST_DEBT;
    const paidFrom = greatest(time, this.#at);
    this.#owe(time, least(debt + units * this.#span, most));
    return paidFrom + this.#debt / this.#rate;
  }

  visit(): void {
    // Time alone leaves nothing to write down.
  }

  refund(time: bigint, stamp: bigint, units: bigint): void {
    const debt = this.#debtAt(time);
    const unpaid = greatest(0n, stamp - greatest(time, this.#at)) * this.#rate;
    const back = least(least(units * this.#span, unpaid), debt);
    if (back > 0n) this.#owe(time, debt - back);
  }

  clear(): void {
    this.#debt = 0n;
    this.#at = 0n;
  }

  #debtAt(time: bigint): bigint {
    return greatest(0n, this.#debt - greatest(0n, time - this.#at) * this.#rate);
  }

  /** A bucket that is full again has no past. */
  #owe(time: bigint, debt: bigint): void {
    this.#debt = debt;
    this.#at = debt === 0n ? 0n : greatest(time, this.#at);
  }
}

export interface ModelledPolicy {
  readonly model: PolicyModel;
  readonly limit: bigint;
}

/** Decides several policies at once: all are charged, or none. */
export function expectTake(
  policies: readonly ModelledPolicy[],
  time: bigint,
  mode: Mode,
  cost: bigint,
): ExpectedReply[] {
  const fits = policies.map(({ model, limit }) => model.fits(time, limit, cost));
  const allowed = fits.every((each) => each);
  const isCharged = cost > 0n && (mode === 'force' || mode === 'count' || (mode === 'take' && allowed));
  return policies.map(({ model, limit }, index) => {
    let stamp = 0n;
    if (isCharged) stamp = model.charge(time, limit, cost, mode === 'count' && !allowed);
    else if (mode !== 'peek') model.visit(time);
    return {
      allowed: fits[index] === true,
      used: Number(model.used(time)),
      waitMs: Number(waitFor(model, time, limit, cost)),
      resetMs: Number(untilMore(model, time, limit)),
      stamp: Number(stamp),
      found: 'fine',
    };
  });
}

/** The smallest number of ms after which the cost would be granted if nothing else happened; -1 when it never would. */
function waitFor(model: PolicyModel, time: bigint, limit: bigint, cost: bigint): bigint {
  if (cost > limit) return -1n;
  if (model.fits(time, limit, cost)) return 0n;
  return firstMoment(model.moments(time, limit, cost), time, (then) => model.fits(then, limit, cost));
}

/** The smallest number of ms after which more is left than now; 0 when nothing is used. */
function untilMore(model: PolicyModel, time: bigint, limit: bigint): bigint {
  const used = model.used(time);
  if (used === 0n) return 0n;
  const left = (then: bigint) => greatest(0n, limit - model.used(then));
  const now = left(time);
  // Under a limit of nothing nothing is ever left; then it is the moment at which nothing is used any more.
  if (limit === 0n) return untilUnused(model, time);
  return firstMoment(model.moments(time, limit, now + 1n), time, (then) => left(then) > now);
}

function untilUnused(model: PolicyModel, time: bigint): bigint {
  return firstMoment(model.moments(time, 0n, 0n), time, (then) => model.used(then) === 0n);
}

/** Halves the moments, since what has become true stays true while nothing else happens. */
function firstMoment(moments: readonly bigint[], time: bigint, isTrueAt: (then: bigint) => boolean): bigint {
  let low = 0;
  let high = moments.length;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const moment = moments[middle] ?? 0n;
    if (moment > time && isTrueAt(moment)) high = middle;
    else low = middle + 1;
  }
  const first = moments[low];
  if (first === undefined) throw new Error('the model names no moment at which it becomes true');
  return first - time;
}

function roundUp(value: bigint, step: bigint): bigint {
  return divideUp(value, step) * step;
}

function divideUp(value: bigint, divisor: bigint): bigint {
  return (value + divisor - 1n) / divisor;
}

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function greatest(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
