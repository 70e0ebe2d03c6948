import type { Found } from './reply.ts';

/*
 * The log of a sliding window:
 *
 *   header  'W', version 1, head u32, used u32, last u48       16 bytes, big-endian
 *   entry   time u48, units u16                                 8 bytes, times ascending
 *
 * `head` is the index of the first entry that still counts, `used` the units from there on, `last` the latest time
 * seen.
 */
export const HEADER = 16;
export const ENTRY = 8;
export const MAX_UNITS = 0xffff;
export const MAX_USED = 0xffffffff;

const MAGIC = 0x57;

/** The log as the twin reads and changes it; an absent or unreadable one is empty. */
export class PackedLog {
  readonly found: Found;
  head = 0;
  used = 0;
  last = 0;
  #entries: Buffer = Buffer.alloc(0);

  constructor(stored: Buffer | undefined) {
    // GETRANGE cannot tell an empty string from a missing one.
    const value = stored?.length === 0 ? undefined : stored;
    this.found = inspect(value);
    if (value === undefined || this.found !== 'fine') return;
    this.head = value.readUInt32BE(2);
    this.used = value.readUInt32BE(6);
    this.last = value.readUIntBE(10, 6);
    this.#entries = value.subarray(HEADER);
  }

  get count(): number {
    return this.#entries.length / ENTRY;
  }

  timeAt(index: number): number {
    return this.#entries.readUIntBE(index * ENTRY, 6);
  }

  unitsAt(index: number): number {
    return this.#entries.readUInt16BE(index * ENTRY + 6);
  }

  setUnitsAt(index: number, units: number): void {
    // The bytes may still be the stored ones, which a reader may hold.
    this.#entries = Buffer.from(this.#entries);
    this.#entries.writeUInt16BE(units, index * ENTRY + 6);
  }

  /** Keeps the entries from `start` to `end` and adds others behind them. */
  replace(start: number, end: number, tail: readonly Buffer[]): void {
    this.head -= start;
    this.#entries = Buffer.concat([this.#entries.subarray(start * ENTRY, end * ENTRY), ...tail]);
  }

  pack(): Buffer {
    const header = Buffer.alloc(HEADER);
    header[0] = MAGIC;
    header[1] = 1;
    header.writeUInt32BE(this.head, 2);
    header.writeUInt32BE(this.used, 6);
    header.writeUIntBE(this.last, 10, 6);
    return Buffer.concat([header, this.#entries]);
  }
}

export function packEntry(time: number, units: number): Buffer {
  const entry = Buffer.alloc(ENTRY);
  entry.writeUIntBE(time, 0, 6);
  entry.writeUInt16BE(units, 6);
  return entry;
}

function inspect(value: Buffer | undefined): Found {
  if (value === undefined) return 'fine';
  const version = value[1];
  if (value[0] !== MAGIC || version === undefined) return 'corrupt';
  if (version > 1) return 'newer';
  if (version < 1 || value.length < HEADER || (value.length - HEADER) % ENTRY !== 0) return 'corrupt';
  return value.readUInt32BE(2) > (value.length - HEADER) / ENTRY ? 'corrupt' : 'fine';
}
