import type { StoredFormat } from '../../engine/reply.ts';

/*
 * The stored format of a token bucket. Each number has 8 bytes, big-endian:
 *
 *   '2:' <started> <paid> <charged> <at> <interval> (<from> <to>)...
 *
 * 2 is the version of the format. `started` is the ms at which the numbering of grains began. At the ms `at`, the grains
 * up to `paid` were paid and those up to `charged` were charged. Each `from` and `to` is a refunded range between `paid`
 * and `charged`. Version 1 is text, '1:<started>:<paid>:<charged>:<at>:<interval>:<from>-<to>,...;', and is only read.
 */
export const BYTES = 42;
export const RANGE_BYTES = 16;

/** The largest number in a ledger, so that the sum of two numbers is exact. */
export const MAX: number = 2 ** 52;

/**
 * The most refunded ranges that are stored, so that values stay short. Further refunds remove grains from the end
 * instead: the debt stays exact, but a later refund of those last grains returns less.
 */
export const MAX_RANGES = 256;

/** A range of grains: from `from` up to, but not including, `to`. */
type Range = readonly [from: number, to: number];

type StoredLedger = Pick<BucketLedger, 'started' | 'paid' | 'charged' | 'at'> & {
  readonly refunded: readonly Range[];
};

/** The charges, payments and refunds of a token bucket, in grains. */
export class BucketLedger {
  readonly started: number;
  paid: number;
  charged: number;
  at: number;
  /** Grains that were charged, and neither paid nor refunded. */
  owed: number;
  #refunded: readonly Range[];

  constructor({ started, paid, charged, at, refunded }: StoredLedger) {
    this.started = started;
    this.paid = paid;
    this.charged = charged;
    this.at = at;
    this.#refunded = refunded;
    this.owed = charged - paid - refunded.reduce((sum, [from, to]) => sum + to - from, 0);
    this.#skipRefunded();
  }

  /** Returns a new ledger, numbered from 0, that begins with a debt of `owed` grains. */
  restart(started: number, owed: number): BucketLedger {
    return new BucketLedger({ started, paid: 0, charged: owed, at: this.at, refunded: [] });
  }

  /** Pays up to `grains` of the owed grains, the oldest first, at the ms `now`. */
  pay(grains: number, now: number): void {
    this.at = now;
    for (let left = grains; left > 0 && this.owed > 0; ) {
      const step = Math.min(left, (this.#refunded[0]?.[0] ?? this.charged) - this.paid);
      this.paid += step;
      this.owed -= step;
      left -= step;
      this.#skipRefunded();
    }
  }

  /** Refunds the grains of a range that are still owed. Returns false when no grain of the range is owed. */
  refund(from: number, to: number): boolean {
    let [a, b] = [Math.max(from, this.paid), Math.min(to, this.charged)];
    if (a >= b) return false;
    let gained = b - a;
    const list: Range[] = [];
    for (const range of this.#refunded) {
      if (range[1] < a || range[0] > b) {
        list.push(range);
      } else {
        gained -= Math.max(0, Math.min(b, range[1]) - Math.max(a, range[0]));
        [a, b] = [Math.min(a, range[0]), Math.max(b, range[1])];
      }
    }
    if (gained <= 0) return false;
    this.owed -= gained;
    if (list.length < MAX_RANGES)
      this.#refunded = [...list, [a, b] as const].sort((one, other) => one[0] - other[0]);
    else this.#shorten(gained);
    this.#skipRefunded();
    return true;
  }

  /** Removes charged grains from the end, and skips the refunded ranges at the end. */
  #shorten(grains: number): void {
    for (let left = grains; left > 0; ) {
      const [from, to] = this.#refunded.at(-1) ?? [this.paid, this.paid];
      const step = Math.min(left, this.charged - to);
      this.charged -= step;
      left -= step;
      if (this.charged !== to) continue;
      this.charged = from;
      this.#refunded = this.#refunded.slice(0, -1);
    }
  }

  pack(interval: number): Buffer {
    const numbers = [this.started, this.paid, this.charged, this.at, interval, ...this.#refunded.flat()];
    const value = Buffer.alloc(2 + numbers.length * 8);
    value.write('2:', 'latin1');
    numbers.forEach((number, index) => {
      value.writeUInt32BE(Math.floor(number / 2 ** 32), 2 + index * 8);
      value.writeUInt32BE(number % 2 ** 32, 6 + index * 8);
    });
    return value;
  }

  /** Moves `paid` to the end of the refunded ranges that begin there. */
  #skipRefunded(): void {
    for (const [from, to] of this.#refunded) {
      if (from > this.paid) return;
      this.paid = to;
      this.#refunded = this.#refunded.slice(1);
    }
  }
}

/** Reads a stored ledger. A ledger that has another interval than `span` is converted, and owes the same tokens. */
export function parseLedger(
  value: Buffer | undefined,
  now: number,
  span: number,
): { found: StoredFormat; ledger: BucketLedger } {
  const empty = new BucketLedger({ started: now, paid: 0, charged: 0, at: now, refunded: [] });
  if (value === undefined) return { found: 'fine', ledger: empty };
  const numbers = numbersOf(value);
  if (typeof numbers === 'string') return { found: numbers, ledger: empty };
  const [started = 0, paid = 0, charged = 0, at = 0, interval = 0, ...rest] = numbers;
  const refunded = rangesOf(rest, paid, charged);
  if (
    interval === 0 ||
    Math.max(started, charged, at, interval) > MAX ||
    paid > charged ||
    refunded === undefined
  ) {
    return { found: 'corrupt', ledger: empty };
  }
  const ledger = new BucketLedger({ started, paid, charged, at, refunded });
  if (interval === span) return { found: 'fine', ledger };
  const tokens = Math.floor(ledger.owed / interval);
  const part = Math.ceil(((ledger.owed - tokens * interval) * span) / interval);
  return { found: 'fine', ledger: ledger.restart(now, Math.min(MAX, tokens * span + part)) };
}

/** The numbers of a stored value, in the order of the format. */
function numbersOf(value: Buffer): readonly number[] | 'corrupt' | 'newer' {
  const text = value.toString('latin1');
  if (text.startsWith('2:')) {
    if (value.length < BYTES || (value.length - BYTES) % RANGE_BYTES !== 0) return 'corrupt';
    return Array.from({ length: (value.length - 2) / 8 }, (_, index) => {
      return value.readUInt32BE(2 + index * 8) * 2 ** 32 + value.readUInt32BE(6 + index * 8);
    });
  }
  if (Number(/^(\d+):/.exec(text)?.[1] ?? 0) > 2) return 'newer';
  const parts = /^1:(\d+):(\d+):(\d+):(\d+):(\d+):([\d,-]*);$/.exec(text);
  if (parts === null) return 'corrupt';
  const ranges = (parts[6] ?? '').matchAll(/(?<!\d)(\d+)-(\d+)/g);
  return [...parts.slice(1, 6), ...[...ranges].flatMap(([, from, to]) => [from, to])].map(Number);
}

/** Pairs of numbers as ranges; undefined if they do not ascend between `paid` and `charged`. */
function rangesOf(numbers: readonly number[], paid: number, charged: number): Range[] | undefined {
  const ranges: Range[] = [];
  let last = paid;
  for (let index = 0; index < numbers.length; index += 2) {
    const [from = 0, to = 0] = numbers.slice(index, index + 2);
    if (from < last || to <= from || to > charged) return undefined;
    ranges.push([from, to]);
    last = to;
  }
  return ranges;
}
