import type { StoredFormat } from '../../engine/reply.ts';

type Piece = readonly [from: number, to: number];

/** The line on which a token bucket's grains are charged and paid; see token-bucket.ts for how it is stored. */
export class PaidLine {
  readonly life: number;
  paid: number;
  charged: number;
  at: number;
  /** Charged, and neither paid nor given back. */
  owed: number;
  #cut: readonly Piece[];

  constructor(life: number, paid: number, charged: number, at: number, cut: readonly Piece[]) {
    this.life = life;
    this.paid = paid;
    this.charged = charged;
    this.at = at;
    this.#cut = cut;
    this.owed = charged - paid - cut.reduce((sum, [from, to]) => sum + to - from, 0);
    this.#skip();
  }

  /** A new line, on which what is owed stands first. */
  next(life: number, owed: number): PaidLine {
    return new PaidLine(life, 0, owed, this.at, []);
  }

  /** Pays so many grains from the front on, up to the ms `now`. */
  pay(grains: number, now: number): void {
    this.at = now;
    for (let left = grains; left > 0 && this.owed > 0; ) {
      const step = Math.min(left, (this.#cut[0]?.[0] ?? this.charged) - this.paid);
      this.paid += step;
      this.owed -= step;
      left -= step;
      this.#skip();
    }
  }

  /** Gives back what is still owed of a piece; false when nothing is. */
  cutOut(from: number, to: number, maxPieces: number): boolean {
    let [a, b] = [Math.max(from, this.paid), Math.min(to, this.charged)];
    if (a >= b) return false;
    let gained = b - a;
    const list: Piece[] = [];
    for (const piece of this.#cut) {
      if (piece[1] < a || piece[0] > b) {
        list.push(piece);
      } else {
        gained -= Math.max(0, Math.min(b, piece[1]) - Math.max(a, piece[0]));
        [a, b] = [Math.min(a, piece[0]), Math.max(b, piece[1])];
      }
    }
    if (gained <= 0) return false;
    this.owed -= gained;
    if (list.length < maxPieces)
      this.#cut = [...list, [a, b] as const].sort((one, other) => one[0] - other[0]);
    else this.#shorten(gained);
    this.#skip();
    return true;
  }

  /** Takes grains from the end of the line, past the pieces there. */
  #shorten(grains: number): void {
    for (let left = grains; left > 0; ) {
      const [from, to] = this.#cut.at(-1) ?? [this.paid, this.paid];
      const step = Math.min(left, this.charged - to);
      this.charged -= step;
      left -= step;
      if (this.charged !== to) continue;
      this.charged = from;
      this.#cut = this.#cut.slice(0, -1);
    }
  }

  pack(interval: number): Buffer {
    const cut = this.#cut.map(([from, to]) => `${from}-${to}`).join(',');
    const numbers = [this.life, this.paid, this.charged, this.at, interval].join(':');
    return Buffer.from(`1:${numbers}:${cut};`, 'latin1');
  }

  /** Payment passes over what was given back. */
  #skip(): void {
    for (let [first] = this.#cut; first !== undefined && first[0] <= this.paid; [first] = this.#cut) {
      this.paid = first[1];
      this.#cut = this.#cut.slice(1);
    }
  }
}

/** Reads a stored line; one of another interval becomes a new one that owes as many tokens. */
export function parseLine(
  value: Buffer | undefined,
  now: number,
  span: number,
  max: number,
): { found: StoredFormat; line: PaidLine } {
  const fresh = new PaidLine(now, 0, 0, now, []);
  if (value === undefined) return { found: 'fine', line: fresh };
  const text = value.toString('latin1');
  const version = /^(\d+):/.exec(text)?.[1];
  if (version !== undefined && Number(version) > 1) return { found: 'newer', line: fresh };
  const parts = /^1:(\d+):(\d+):(\d+):(\d+):([1-9]\d*):([\d,-]*);$/.exec(text);
  if (parts === null) return { found: 'corrupt', line: fresh };
  const [life = 0, paid = 0, charged = 0, at = 0, interval = 0] = parts.slice(1, 6).map(Number);
  const cut = parseCut(parts[6] ?? '', paid, charged);
  if (Math.max(life, charged, at, interval) > max || paid > charged || cut === undefined) {
    return { found: 'corrupt', line: fresh };
  }
  const line = new PaidLine(life, paid, charged, at, cut);
  if (interval === span) return { found: 'fine', line };
  const tokens = Math.floor(line.owed / interval);
  const rest = Math.ceil(((line.owed - tokens * interval) * span) / interval);
  return { found: 'fine', line: line.next(now, Math.min(max, tokens * span + rest)) };
}

function parseCut(text: string, paid: number, charged: number): Piece[] | undefined {
  const cut: Piece[] = [];
  let last = paid;
  for (const piece of text === '' ? [] : text.split(',')) {
    const [from = 0, to = 0] = piece.split('-').map(Number);
    if (from < last || to <= from || to > charged) return undefined;
    cut.push([from, to]);
    last = to;
  }
  return cut.map(([from, to]) => `${from}-${to}`).join(',') === text ? cut : undefined;
}
