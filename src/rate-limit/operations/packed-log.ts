import type { StoredFormat } from '../../engine/reply.ts';

/*
 * The log of a sliding window:
 *
 *   header  'W', version 1, head u32, count u32, used u32, last u48      20 bytes, big-endian
 *   entry   time u48, units u16                                           8 bytes, times ascending
 *
 * `head` is the index of the first entry that still counts, `count` the index behind the last, `used` the units from
 * `head` on, `last` the latest time seen. Behind the entries a long log has room for more, in zeros: Redis doubles a
 * string that grows, and an eighth is enough.
 */
export const HEADER = 20;
export const ENTRY = 8;
export const MAX_UNITS = 0xffff;
export const MAX_USED = 0xffffffff;

/** Logs of up to so many entries are read and written whole, without room for more. */
export const CHUNK = 128;

const MAGIC = 0x57;

/** The log as the twin reads and changes it; an absent or unreadable one is empty. */
export class PackedLog {
  readonly found: StoredFormat;
  head = 0;
  count = 0;
  used = 0;
  last = 0;
  #entries: Buffer = Buffer.alloc(0);

  constructor(stored: Buffer | undefined) {
    // GETRANGE cannot tell an empty string from a missing one.
    const value = stored?.length === 0 ? undefined : stored;
    this.found = inspect(value);
    if (value === undefined || this.found !== 'fine') return;
    this.head = value.readUInt32BE(2);
    this.count = value.readUInt32BE(6);
    this.used = value.readUInt32BE(10);
    this.last = value.readUIntBE(14, 6);
    this.#entries = value.subarray(HEADER);
  }

  /** Passes over what was counted until then. */
  trim(until: number): void {
    while (this.head < this.count && this.#timeAt(this.head) <= until) {
      this.used = Math.max(0, this.used - this.#unitsAt(this.head));
      this.head++;
    }
    if (this.head === this.count) this.used = 0;
  }

  /** When the nth of the units that count was counted; the last where there are fewer, minus infinity where none. */
  timeOfUnit(nth: number): number {
    let time = Number.NEGATIVE_INFINITY;
    for (let index = this.head, left = nth; left > 0 && index < this.count; index++) {
      left -= this.#unitsAt(index);
      time = this.#timeAt(index);
    }
    return time;
  }

  /** Takes units out from the oldest on, which `used` has as well. */
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

  /** Writes units down, which `used` has already; answers with their time, which is never before the last one's. */
  add(time: number, units: number): number {
    let stamp = time;
    let from = this.count;
    let left = units;
    const tail: Buffer[] = [];
    if (from > this.head) {
      const last = this.#timeAt(from - 1);
      const held = this.#unitsAt(from - 1);
      stamp = Math.max(stamp, last);
      if (last === stamp && held < MAX_UNITS && left > 0) {
        const more = Math.min(left, MAX_UNITS - held);
        from--;
        left -= more;
        tail.push(packEntry(last, held + more));
      }
    }
    for (; left > 0; left -= Math.min(left, MAX_UNITS))
      tail.push(packEntry(stamp, Math.min(left, MAX_UNITS)));
    this.#append(from, tail);
    return stamp;
  }

  /** Takes units of that time out again; false when none of them counts any more. */
  giveBack(time: number, units: number): boolean {
    const before = this.used;
    let first = this.head;
    while (first < this.count && this.#timeAt(first) < time) first++;
    let end = first;
    for (let left = units; left > 0 && end < this.count && this.#timeAt(end) === time; end++) {
      const held = this.#unitsAt(end);
      const less = Math.min(left, held);
      left -= less;
      // The sum of a log that someone else has changed may say less than its entries.
      this.used = Math.max(0, this.used - less);
      if (less === held) continue;
      this.#setUnitsAt(end, held - less);
      break;
    }
    if (first === this.head) this.head = end;
    else this.#cut(first, end);
    return this.used < before;
  }

  #timeAt(index: number): number {
    return this.#entries.readUIntBE(index * ENTRY, 6);
  }

  #unitsAt(index: number): number {
    return this.#entries.readUInt16BE(index * ENTRY + 6);
  }

  #setUnitsAt(index: number, units: number): void {
    // The bytes may still be the stored ones, which a reader may hold.
    this.#entries = Buffer.from(this.#entries);
    this.#entries.writeUInt16BE(units, index * ENTRY + 6);
  }

  /** Puts entries in the place of those from `from` on, and writes the log anew where it has no room for them. */
  #append(from: number, tail: readonly Buffer[]): void {
    const end = from + tail.length;
    const isWritten = from > CHUNK && end * ENTRY <= this.#entries.length && this.head * 2 < from;
    const start = isWritten ? 0 : this.head;
    const kept = this.#entries.subarray(start * ENTRY, from * ENTRY);
    this.head -= start;
    this.count = end - start;
    const room = this.count <= CHUNK ? this.count : this.count + Math.ceil(this.count / 8);
    const rest = isWritten ? this.#entries.subarray(end * ENTRY) : Buffer.alloc((room - this.count) * ENTRY);
    this.#entries = Buffer.concat([kept, ...tail, rest]);
  }

  /** Takes entries out; their places become room at the end. */
  #cut(from: number, to: number): void {
    const tail = this.#entries.subarray(to * ENTRY, this.count * ENTRY);
    const freed = Buffer.alloc((to - from) * ENTRY);
    const room = this.#entries.subarray(this.count * ENTRY);
    this.#entries = Buffer.concat([this.#entries.subarray(0, from * ENTRY), tail, freed, room]);
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
