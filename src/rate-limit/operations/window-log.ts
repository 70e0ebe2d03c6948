import type { StoredFormat } from '../../engine/reply.ts';

/*
 * The stored format of a sliding window:
 *
 *   header  'W', version 1, head u32, count u32, used u32, last u48      20 bytes, big-endian
 *   entry   time u48, units u16                                           8 bytes, times ascending
 *
 * `head` is the index of the first entry that still counts, `count` the index after the last entry, `used` the sum of
 * the units from `head` on, `last` the latest time that was stored. A long log ends with zeros as spare space for an
 * eighth more entries: Redis would double the allocation of a string that grows.
 */
export const HEADER = 20;
export const ENTRY = 8;
export const MAX_UNITS = 0xffff;
export const MAX_USED = 0xffffffff;

/** Logs of up to this many entries are read and written whole, without spare space. */
export const CHUNK = 128;

const MAGIC = 0x57;

/** The log of the in-memory implementation. An absent or corrupt value is read as an empty log. */
export class WindowLog {
  readonly found: StoredFormat;
  head = 0;
  count = 0;
  used = 0;
  last = 0;
  #entries: Buffer = Buffer.alloc(0);
  /** Charged units that are not in the entries yet, all at the time `#latest`. */
  #pending = 0;
  #latest = 0;

  constructor(stored: Buffer | undefined) {
    // The script's GETRANGE returns the same for an empty string as for a missing key.
    const value = stored?.length === 0 ? undefined : stored;
    this.found = inspect(value);
    if (value === undefined || this.found !== 'fine') return;
    this.head = value.readUInt32BE(2);
    this.count = value.readUInt32BE(6);
    this.used = value.readUInt32BE(10);
    this.last = value.readUIntBE(14, 6);
    this.#entries = value.subarray(HEADER);
  }

  /** Expires the entries whose time is `until` or earlier. */
  expire(until: number): void {
    while (this.head < this.count && this.#timeAt(this.head) <= until) {
      this.used = Math.max(0, this.used - this.#unitsAt(this.head));
      this.head++;
    }
    if (this.head === this.count) this.used = 0;
  }

  /** The time of the nth unit that counts, or of the last unit if fewer count; minus infinity if none counts. */
  timeOfUnit(nth: number): number {
    let time = Number.NEGATIVE_INFINITY;
    let left = nth;
    for (let index = this.head; left > 0 && index < this.count; index++) {
      left -= this.#unitsAt(index);
      time = this.#timeAt(index);
    }
    return left > 0 && this.#pending > 0 ? this.#latest : time;
  }

  /** The time of the last entry; 0 if no entry counts. */
  latest(): number {
    return this.head < this.count ? this.#timeAt(this.count - 1) : 0;
  }

  /** Removes the oldest units, from the entries and from `used`. */
  dropOldest(units: number): void {
    for (let left = units; left > 0 && this.head < this.count; ) {
      const oldest = this.#unitsAt(this.head);
      const less = Math.min(oldest, left);
      left -= less;
      this.used -= less;
      if (less === oldest) this.head++;
      else this.#setUnitsAt(this.head, oldest - less);
    }
  }

  /** Charges units, which `used` already includes. Returns their time: `time`, or that of a later last entry. */
  charge(time: number, units: number): number {
    this.#latest = this.count > this.head ? Math.max(time, this.#timeAt(this.count - 1)) : time;
    this.#pending += units;
    return this.#latest;
  }

  /** Appends the charged units to the entries. Returns their time. */
  append(): number {
    const stamp = this.#latest;
    let from = this.count;
    let left = this.#pending;
    const tail: Buffer[] = [];
    if (from > this.head && left > 0) {
      const held = this.#unitsAt(from - 1);
      if (this.#timeAt(from - 1) === stamp && held < MAX_UNITS) {
        const more = Math.min(left, MAX_UNITS - held);
        from--;
        left -= more;
        tail.push(packEntry(stamp, held + more));
      }
    }
    for (; left > 0; left -= Math.min(left, MAX_UNITS))
      tail.push(packEntry(stamp, Math.min(left, MAX_UNITS)));
    this.#pending = 0;
    this.#replaceTail(from, tail);
    return stamp;
  }

  /** Refunds up to `units` units of one time. Returns false when no unit of that time counts. */
  refund(time: number, units: number): boolean {
    const before = this.used;
    let first = this.head;
    while (first < this.count && this.#timeAt(first) < time) first++;
    let end = first;
    for (let left = units; left > 0 && end < this.count && this.#timeAt(end) === time; end++) {
      const held = this.#unitsAt(end);
      const less = Math.min(left, held);
      left -= less;
      // In a log that another program has written, `used` may be less than the sum of the entries.
      this.used = Math.max(0, this.used - less);
      if (less === held) continue;
      this.#setUnitsAt(end, held - less);
      break;
    }
    if (first === this.head) this.head = end;
    else this.#remove(first, end);
    return this.used < before;
  }

  #timeAt(index: number): number {
    return this.#entries.readUIntBE(index * ENTRY, 6);
  }

  #unitsAt(index: number): number {
    return this.#entries.readUInt16BE(index * ENTRY + 6);
  }

  #setUnitsAt(index: number, units: number): void {
    // Copied before the write: the buffer may be the stored value itself, which other code may hold.
    this.#entries = Buffer.from(this.#entries);
    this.#entries.writeUInt16BE(units, index * ENTRY + 6);
  }

  /**
   * Replaces the entries from an index on. Rebuilds the log without its expired entries when `tail` does not fit, the
   * log is short, or half of the entries have expired.
   */
  #replaceTail(from: number, tail: readonly Buffer[]): void {
    const end = from + tail.length;
    const fits = from > CHUNK && end * ENTRY <= this.#entries.length && this.head * 2 < from;
    const start = fits ? 0 : this.head;
    const kept = this.#entries.subarray(start * ENTRY, from * ENTRY);
    this.head -= start;
    this.count = end - start;
    const spare = this.count <= CHUNK ? 0 : Math.ceil(this.count / 8);
    const rest = fits ? this.#entries.subarray(end * ENTRY) : Buffer.alloc(spare * ENTRY);
    this.#entries = Buffer.concat([kept, ...tail, rest]);
  }

  /** Removes entries from the middle; their space becomes spare space at the end. */
  #remove(from: number, to: number): void {
    const tail = this.#entries.subarray(to * ENTRY, this.count * ENTRY);
    const freed = Buffer.alloc((to - from) * ENTRY);
    const spare = this.#entries.subarray(this.count * ENTRY);
    this.#entries = Buffer.concat([this.#entries.subarray(0, from * ENTRY), tail, freed, spare]);
    this.count -= to - from;
  }

  pack(): Buffer {
    const header = Buffer.alloc(HEADER);
    header[0] = MAGIC;
    header[1] = 1;
    header.writeUInt32BE(this.head, 2);
    header.writeUInt32BE(this.count, 6);
    header.writeUInt32BE(this.used, 10);
    header.writeUIntBE(this.last, 14, 6);
    return Buffer.concat([header, this.#entries]);
  }
}

function packEntry(time: number, units: number): Buffer {
  const entry = Buffer.alloc(ENTRY);
  entry.writeUIntBE(time, 0, 6);
  entry.writeUInt16BE(units, 6);
  return entry;
}

function inspect(value: Buffer | undefined): StoredFormat {
  if (value === undefined) return 'fine';
  const version = value[1];
  if (value[0] !== MAGIC || version === undefined) return 'corrupt';
  if (version > 1) return 'newer';
  if (version < 1 || value.length < HEADER || (value.length - HEADER) % ENTRY !== 0) return 'corrupt';
  const [head, count] = [value.readUInt32BE(2), value.readUInt32BE(6)];
  return head > count || count > (value.length - HEADER) / ENTRY ? 'corrupt' : 'fine';
}
