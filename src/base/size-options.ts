import type { OptionReader } from './check.ts';

const MEBIBYTE = 2 ** 20;

/** Far below Redis's own limit for a string (512 MiB): a value this large blocks the server for milliseconds. */
const LARGEST_VALUE = 64 * MEBIBYTE;

/** An option that bounds the bytes of one stored value; default 1 MiB. */
export function valueSizeOption(reader: OptionReader, name: string): number {
  return reader.integer(name, { min: 1, max: LARGEST_VALUE }) ?? MEBIBYTE;
}
