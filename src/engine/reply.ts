import { StoreError } from '../base/errors.ts';
import type { RawReply } from './operation.ts';

/** Whether a stored value is readable. A script replies with the format's index in `STORED_FORMATS`. */
export type StoredFormat = 'fine' | 'corrupt' | 'newer';

const STORED_FORMATS: readonly StoredFormat[] = ['fine', 'corrupt', 'newer'];

export function storedFormatAt(reply: readonly RawReply[], index: number): StoredFormat {
  const format = STORED_FORMATS[integerAt(reply, index)];
  if (format === undefined) throw unexpected(reply);
  return format;
}

export function storedFormatCode(format: StoredFormat): number {
  return STORED_FORMATS.indexOf(format);
}

export function arrayOf(reply: RawReply | undefined): readonly RawReply[] {
  if (Array.isArray(reply)) return reply as readonly RawReply[];
  throw unexpected(reply);
}

export function integerAt(reply: readonly RawReply[], index: number): number {
  const value = reply[index];
  if (typeof value === 'number') return value;
  throw unexpected(value);
}

export function bytesAt(reply: readonly RawReply[], index: number): Buffer | null {
  const value = reply[index];
  if (value === null || Buffer.isBuffer(value)) return value;
  throw unexpected(value);
}

export function textsAt(reply: readonly RawReply[], index: number): readonly string[] {
  return arrayOf(reply[index]).map((each) => {
    if (Buffer.isBuffer(each)) return each.toString();
    throw unexpected(each);
  });
}

/** The error for a value in a newer format, which the kit neither interprets nor overwrites. */
export function newerFormat(feature: string): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_NEWER_FORMAT',
    `a ${feature} value was written by a newer version of redis-kit; it is left untouched`,
  );
}

/** The error for a value that counts as absent, since it is in no format of the kit. `what` names the value. */
export function corruptValue(what: string): StoreError {
  return new StoreError('ERR_REDIS_KIT_CORRUPT', `${what} cannot be read and counts as absent`);
}

function unexpected(reply: unknown): StoreError {
  return new StoreError('ERR_REDIS_KIT_REPLY', `a script replied in an unexpected form: ${typeof reply}`);
}
