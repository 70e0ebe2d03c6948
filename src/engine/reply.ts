import { StoreError } from '../base/errors.ts';
import type { RawReply } from './operation.ts';

/** What a stored value turned out to be. A script answers with the digit. */
export type Found = 'fine' | 'corrupt' | 'newer';

const FOUND: readonly Found[] = ['fine', 'corrupt', 'newer'];

export function foundAt(reply: readonly RawReply[], index: number): Found {
  const found = FOUND[integerAt(reply, index)];
  if (found === undefined) throw unexpected(reply);
  return found;
}

/** The digit by which a twin answers, as its script does. */
export function foundCode(found: Found): number {
  return FOUND.indexOf(found);
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

/** A format that a newer version of redis-kit wrote is never read by guessing, and never overwritten. */
export function newerFormat(room: string): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_NEWER_FORMAT',
    `a ${room} value was written by a newer version of redis-kit; it is left untouched`,
  );
}

function unexpected(reply: unknown): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_REPLY',
    `a script answered with something unexpected: ${typeof reply}`,
  );
}
