import { RedisKitError } from './errors.ts';
import type { OptionReader } from './option-reader.ts';

const MEBIBYTE = 2 ** 20;

/** The largest size allowed, well below Redis's limit of 512 MiB: a larger value blocks the server for too long. */
const LARGEST_VALUE = 64 * MEBIBYTE;

/** Reads an option that limits the bytes of one stored value; default 1 MiB. */
export function valueSizeOption(reader: OptionReader, name: string): number {
  return reader.integer(name, { min: 1, max: LARGEST_VALUE }) ?? MEBIBYTE;
}

/** Throws if a text takes more than `maxBytes` bytes. `what` names the text, and `remedy` says what to do. */
export function checkBytes(what: string, text: string, maxBytes: number, remedy: string): void {
  // A character takes at most three bytes per UTF-16 unit, so that short texts need not be counted.
  if (text.length * 3 <= maxBytes) return;
  const bytes = Buffer.byteLength(text);
  if (bytes <= maxBytes) return;
  const message = `${what} takes ${bytes} bytes, and at most ${maxBytes} are allowed; ${remedy}`;
  throw new RedisKitError('ERR_REDIS_KIT_TOO_LARGE', message);
}
