/*
 * A model of the algorithms, written from their definitions with integers of any size. It shares only the meaning of the
 * policy numbers with the operations, and visits every charge on each call instead of keeping sums.
 */

export type Mode = 'take' | 'peek' | 'force' | 'count';

export type Numbers = readonly [limit: bigint, span: bigint, rate: bigint];

export interface ExpectedReply {
  readonly allowed: boolean;
  readonly used: number;
  readonly waitMs: number;
  readonly resetMs: number;
  readonly stamp: number;
  readonly position: number;
  readonly found: 'fine';
}

/** Identifies a charge, so that it can be refunded. */
export interface ChargeId {
  readonly stamp: bigint;
  readonly position: bigint;
}

const NO_CHARGE: ChargeId = { stamp: 0n, position: 0n };

/** The model of one algorithm. Each call passes the time and the limit. */
export interface PolicyModel {
  used(time: bigint): bigint;
  /** Whether the cost would be allowed at the time, if nothing else was counted before. */
  fits(time: bigint, limit: bigint, cost: bigint): boolean;
  /** The moments, ascending, at which the result of `fits` can change. */
  moments(time: bigint, limit: bigint, cost: bigint): readonly bigint[];
  /** The latest time for which units are granted, if that is later than the given time. */
  grantedUntil(time: bigint): bigint;
  /** Counts an allowed or a refused request. `at`: the time until which its units may be used; default now. */
  charge(time: bigint, limit: bigint, units: bigint, isRefused: boolean, at?: bigint): ChargeId;
  /** Gives up the quota that would come back unused until `at`. */
  skipTo(time: bigint, at: bigint): void;
  /** A call that may expire units, but counts none. */
  visit(time: bigint): void;
  refund(time: bigint, id: ChargeId, units: bigint): void;
  /** The key is deleted. */
  clear(): void;
}

/** Units above this are not counted, and so cannot be refunded. */
const MOST_UNITS_IN_A_WINDOW = 2n ** 32n - 1n;

/**
 * Allows at most `limit` units in every window (t - W, t]. A charge counts at the time of the server, rounded up to a
 * multiple of the resolution. When the clock goes back, the latest time is used at which a charge, a refund or an
 * expiry was stored.
 *
 * A refused request that counts never lowers the count, and never raises it above the limit: when the window is full, its
 * units replace the oldest ones, so that a client that never pauses keeps waiting.
 *
 * A refund removes as many units of its time as are left.
 */
export class WindowModel implements PolicyModel {
  readonly #span: bigint;
  readonly #resolution: bigint;
  /** Units by the time at which they count, ascending. */
  #charges: { readonly at: bigint; units: bigint }[] = [];
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
    return this.#charges.map(({ at }) => at + this.#span);
  }

  grantedUntil(time: bigint): bigint {
    const latest = this.#within(time).at(-1)?.at ?? 0n;
    return latest > roundUp(this.#clock(time), this.#resolution) ? latest : 0n;
  }

  skipTo(): void {
    // Each unit of a window comes back a window after its use.
  }

  charge(time: bigint, limit: bigint, asked: bigint, isRefused: boolean, until = 0n): ChargeId {
    this.visit(time);
    const before = this.used(time);
    const units = least(asked, isRefused ? limit : MOST_UNITS_IN_A_WINDOW - before);
    if (isRefused) this.#dropOldest(before + units - greatest(before, limit));
    const latest = this.#charges.at(-1)?.at ?? 0n;
    const at = greatest(latest, roundUp(greatest(this.#clock(time), until), this.#resolution));
    const sameMoment = this.#charges.find((charge) => charge.at === at);
    if (sameMoment !== undefined) sameMoment.units += units;
    else if (units > 0n) this.#charges.push({ at, units });
    this.#latest = this.#clock(time);
    return { stamp: at, position: 0n };
  }

  visit(time: bigint): void {
    const left = this.#within(time);
    if (left.length === this.#charges.length) return;
    this.#charges = left;
    this.#latest = this.#clock(time);
  }

  refund(time: bigint, { stamp }: ChargeId, units: bigint): void {
    const charge = this.#within(time).find(({ at }) => at === stamp);
    if (charge === undefined || units === 0n) return;
    charge.units -= least(units, charge.units);
    this.#charges = this.#within(time).filter((each) => each.units > 0n);
    this.#latest = this.#clock(time);
  }

  clear(): void {
    this.#charges = [];
    this.#latest = 0n;
  }

  #clock(time: bigint): bigint {
    return greatest(time, this.#latest);
  }

  #within(time: bigint) {
    const begin = this.#clock(time) - this.#span;
    return this.#charges.filter(({ at }) => at > begin);
  }

  #dropOldest(surplus: bigint): void {
    let left = surplus;
    for (const charge of [...this.#charges]) {
      if (left <= 0n) return;
      const less = least(left, charge.units);
      charge.units -= less;
      left -= less;
      if (charge.units === 0n) this.#charges.shift();
    }
  }
}

/** Debts and positions above this many parts of a token are cut off. */
const MOST_PARTS = 2n ** 52n;

/**
 * A bucket of `limit` tokens that is refilled continuously with `rate` tokens per `span` ms, up to its limit. Charges are
 * owed in parts, `span` parts per token, and paid back in the order of the charges. When the clock goes back, nothing is
 * paid.
 *
 * A refused request that counts empties the bucket at most, and does not change an overdrawn bucket.
 *
 * A refund returns the parts of a charge that are still owed. The time at which the bucket was last full and the parts
 * charged since then identify the charge.
 */
export class BucketModel implements PolicyModel {
  readonly #span: bigint;
  readonly #rate: bigint;
  /** The charges that are owed, in the order of their payment. */
  #charges: { readonly position: bigint; readonly owed: bigint }[] = [];
  #fullAt = 0n;
  #taken = 0n;
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

  /** The debt falls continuously, so the first whole millisecond at which it is low enough is near the quotient. */
  moments(time: bigint, limit: bigint, cost: bigint): readonly bigint[] {
    const parts = this.#debtAt(time) + cost * this.#span - limit * this.#span;
    const around = greatest(time, this.#at) + parts / this.#rate;
    return [around - 2n, around - 1n, around, around + 1n, around + 2n];
  }

  grantedUntil(): bigint {
    return 0n;
  }

  skipTo(time: bigint, at: bigint): void {
    const debt = this.#debtAt(time);
    const parts = least((at - greatest(time, this.#at)) * this.#rate, MOST_PARTS) - debt;
    if (parts <= 0n) return;
    this.#pay(time);
    this.#renumber(time, debt, parts);
    this.#charges.push({ position: -1n, owed: parts });
    this.#taken += parts;
  }

  charge(time: bigint, limit: bigint, units: bigint, isRefused: boolean): ChargeId {
    const debt = this.#debtAt(time);
    const most = isRefused ? greatest(debt, limit * this.#span) : MOST_PARTS;
    const owed = least(units * this.#span, most - debt);
    if (debt + owed === 0n) return NO_CHARGE;
    this.#pay(time);
    this.#renumber(time, debt, owed);
    const id = { stamp: this.#fullAt, position: this.#taken };
    if (owed > 0n) this.#charges.push({ position: this.#taken, owed });
    this.#taken += owed;
    return id;
  }

  #renumber(time: bigint, debt: bigint, more: bigint): void {
    if (debt > 0n && this.#taken + more <= MOST_PARTS) return;
    // Earlier charges cannot be refunded any more, but are still owed.
    this.#charges = debt === 0n ? [] : [{ position: -1n, owed: debt }];
    this.#fullAt = time;
    this.#taken = debt;
  }

  visit(): void {
    // A bucket stores no expiry.
  }

  refund(time: bigint, { stamp, position }: ChargeId, units: bigint): void {
    const charge = this.#unpaid(time).find((each) => each.position === position);
    if (stamp !== this.#fullAt || charge === undefined) return;
    this.#pay(time);
    this.#charges = this.#charges.map((each) =>
      each.position === position
        ? { position, owed: each.owed - least(units * this.#span, each.owed) }
        : each,
    );
  }

  clear(): void {
    this.#charges = [];
    this.#at = 0n;
  }

  #debtAt(time: bigint): bigint {
    return this.#unpaid(time).reduce((sum, { owed }) => sum + owed, 0n);
  }

  #unpaid(time: bigint) {
    let parts = greatest(0n, time - this.#at) * this.#rate;
    const left = this.#charges.map(({ position, owed }) => {
      const paid = least(parts, owed);
      parts -= paid;
      return { position, owed: owed - paid };
    });
    return left.filter(({ owed }) => owed > 0n);
  }

  #pay(time: bigint): void {
    this.#charges = this.#unpaid(time);
    this.#at = this.#charges.length === 0 ? time : greatest(time, this.#at);
  }
}

export interface ModelledPolicy {
  readonly model: PolicyModel;
  readonly limit: bigint;
}

/** Decides several policies together: charges all of them or none. */
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
    let id = NO_CHARGE;
    const isRefused = mode === 'count' && !allowed;
    if (isCharged) id = model.charge(time, limit, cost, isRefused);
    else if (mode !== 'peek') model.visit(time);
    return {
      allowed: fits[index] === true,
      used: Number(model.used(time)),
      waitMs: Number(waitMs(model, time, limit, cost)),
      resetMs: Number(resetMs(model, time, limit)),
      stamp: isRefused ? 0 : Number(id.stamp),
      position: isRefused ? 0 : Number(id.position),
      found: 'fine',
    };
  });
}

/** Milliseconds until the cost would be allowed if nothing else was counted; -1 for never. */
export function waitMs(model: PolicyModel, time: bigint, limit: bigint, cost: bigint): bigint {
  if (cost > limit) return -1n;
  if (model.fits(time, limit, cost)) return 0n;
  return firstMoment(model.moments(time, limit, cost), time, (then) => model.fits(then, limit, cost));
}

/** Milliseconds until more quota is left than now; 0 when nothing is used. */
export function resetMs(model: PolicyModel, time: bigint, limit: bigint): bigint {
  const used = model.used(time);
  if (used === 0n) return 0n;
  const left = (then: bigint) => greatest(0n, limit - model.used(then));
  const now = left(time);
  // With a limit of 0 nothing is ever left; the reset is the moment at which nothing is used any more.
  if (limit === 0n) return untilUnused(model, time);
  return firstMoment(model.moments(time, limit, now + 1n), time, (then) => left(then) > now);
}

function untilUnused(model: PolicyModel, time: bigint): bigint {
  return firstMoment(model.moments(time, 0n, 0n), time, (then) => model.used(then) === 0n);
}

function firstMoment(moments: readonly bigint[], time: bigint, isTrueAt: (then: bigint) => boolean): bigint {
  const first = moments.find((moment) => moment > time && isTrueAt(moment));
  if (first === undefined) throw new Error('the model lists no moment at which it becomes true');
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
