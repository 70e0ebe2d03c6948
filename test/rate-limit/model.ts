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
  readonly position: number;
  readonly found: 'fine';
}

/** By what a grant can be given back. */
export interface Name {
  readonly stamp: bigint;
  readonly position: bigint;
}

const NO_NAME: Name = { stamp: 0n, position: 0n };

/** One way of counting. Each call names the time and the limit that it is made with. */
export interface PolicyModel {
  used(time: bigint): bigint;
  /** Whether so much would be granted at the time, if nothing else happened. */
  fits(time: bigint, limit: bigint, cost: bigint): boolean;
  /** The moments, ascending, at which the answer to `fits` can change. */
  moments(time: bigint, limit: bigint, cost: bigint): readonly bigint[];
  /** Counts a grant, or a refused try, and answers the name by which a grant can be given back. */
  charge(time: bigint, limit: bigint, units: bigint, isRefused: boolean): Name;
  /** A call that may write, but has nothing to count. */
  visit(time: bigint): void;
  refund(time: bigint, name: Name, units: bigint): void;
  /** The key is gone. */
  clear(): void;
}

/** More units than this are not counted, and so never given back. */
const MOST_UNITS_IN_A_WINDOW = 2n ** 32n - 1n;

/**
 * At most `limit` units in every window (t - W, t]. A grant is made at the time of the server, rounded up to a multiple
 * of the resolution. A clock that goes back stands still at the latest moment at which anything was written down: a
 * grant, a refund, or that some units are outside the window now.
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

  charge(time: bigint, limit: bigint, wanted: bigint, isRefused: boolean): Name {
    this.visit(time);
    const before = this.used(time);
    const units = least(wanted, isRefused ? limit : MOST_UNITS_IN_A_WINDOW - before);
    const at = roundUp(this.#clock(time), this.#resolution);
    if (isRefused) this.#dropOldest(before + units - greatest(before, limit));
    const sameMoment = this.#granted.find((grant) => grant.at === at);
    if (sameMoment !== undefined) sameMoment.units += units;
    else if (units > 0n) this.#granted.push({ at, units });
    this.#latest = this.#clock(time);
    return { stamp: at, position: 0n };
  }

  visit(time: bigint): void {
    const left = this.#within(time);
    if (left.length === this.#granted.length) return;
    this.#granted = left;
    this.#latest = this.#clock(time);
  }

  refund(time: bigint, { stamp }: Name, units: bigint): void {
    const grant = this.#within(time).find(({ at }) => at === stamp);
    if (grant === undefined || units === 0n) return;
    grant.units -= least(units, grant.units);
    this.#granted = this.#within(time).filter((each) => each.units > 0n);
    this.#latest = this.#clock(time);
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

/** Debts, and places on a line of charges, beyond this many parts of a token are cut off there. */
const MOST_PARTS = 2n ** 52n;

/**
 * A bucket of `limit` tokens into which `rate` tokens flow per `span` ms, continuously and never above its brim. What
 * is taken is owed, in parts of which a token has `span`, and paid back in the order in which it was taken. A clock
 * that goes back pays nothing.
 *
 * A refused try that counts empties the bucket at most, and a bucket that is overdrawn stays as it is.
 *
 * A refund gives back what is still owed of a grant, whose name is when the bucket was last full and what had been
 * taken since.
 */
export class BucketModel implements PolicyModel {
  readonly #span: bigint;
  readonly #rate: bigint;
  /** What is owed, first come first paid. */
  #grants: { readonly position: bigint; readonly owed: bigint }[] = [];
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

  /** The debt falls all the time; the first whole millisecond at which it is low enough lies around the quotient. */
  moments(time: bigint, limit: bigint, cost: bigint): readonly bigint[] {
    const parts = this.#debtAt(time) + cost * this.#span - limit * this.#span;
    const around = greatest(time, this.#at) + parts / this.#rate;
    return [around - 2n, around - 1n, around, around + 1n, around + 2n];
  }

  charge(time: bigint, limit: bigint, units: bigint, isRefused: boolean): Name {
    const debt = this.#debtAt(time);
    const most = isRefused ? greatest(debt, limit * this.#span) : MOST_PARTS;
    const owed = least(units * this.#span, most - debt);
    if (debt + owed === 0n) return NO_NAME;
    this.#pay(time);
    if (debt === 0n || this.#taken + owed > MOST_PARTS) {
      // What was taken before has no name any more, and is owed all the same.
      this.#grants = debt === 0n ? [] : [{ position: -1n, owed: debt }];
      this.#fullAt = time;
      this.#taken = debt;
    }
    const name = { stamp: this.#fullAt, position: this.#taken };
    if (owed > 0n) this.#grants.push({ position: this.#taken, owed });
    this.#taken += owed;
    return name;
  }

  visit(): void {
    // Time alone leaves nothing to write down.
  }

  refund(time: bigint, { stamp, position }: Name, units: bigint): void {
    const grant = this.#unpaid(time).find((each) => each.position === position);
    if (stamp !== this.#fullAt || grant === undefined) return;
    this.#pay(time);
    this.#grants = this.#grants.map((each) =>
      each.position === position
        ? { position, owed: each.owed - least(units * this.#span, each.owed) }
        : each,
    );
  }

  clear(): void {
    this.#grants = [];
    this.#at = 0n;
  }

  #debtAt(time: bigint): bigint {
    return this.#unpaid(time).reduce((sum, { owed }) => sum + owed, 0n);
  }

  #unpaid(time: bigint) {
    let parts = greatest(0n, time - this.#at) * this.#rate;
    const left = this.#grants.map(({ position, owed }) => {
      const paid = least(parts, owed);
      parts -= paid;
      return { position, owed: owed - paid };
    });
    return left.filter(({ owed }) => owed > 0n);
  }

  #pay(time: bigint): void {
    this.#grants = this.#unpaid(time);
    this.#at = this.#grants.length === 0 ? time : greatest(time, this.#at);
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
    let name = NO_NAME;
    const isRefused = mode === 'count' && !allowed;
    if (isCharged) name = model.charge(time, limit, cost, isRefused);
    else if (mode !== 'peek') model.visit(time);
    return {
      allowed: fits[index] === true,
      used: Number(model.used(time)),
      waitMs: Number(waitFor(model, time, limit, cost)),
      resetMs: Number(untilMore(model, time, limit)),
      stamp: isRefused ? 0 : Number(name.stamp),
      position: isRefused ? 0 : Number(name.position),
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

function firstMoment(moments: readonly bigint[], time: bigint, isTrueAt: (then: bigint) => boolean): bigint {
  const first = moments.find((moment) => moment > time && isTrueAt(moment));
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
