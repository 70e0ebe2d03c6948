import type { OptionReader } from './option-reader.ts';

const MEBIBYTE = 2 ** 20;

/** The largest size allowed, well below Redis's limit of 512 MiB: a larger value blocks the server for too long. */
const LARGEST_VALUE = 64 * MEBIBYTE;

/** Reads an option that limits the bytes of one stored value; default 1 MiB. */
export function valueSizeOption(reader: OptionReader, name: string): number {
  return reader.integer(name, { min: 1, max: LARGEST_VALUE }) ?? MEBIBYTE;
}
