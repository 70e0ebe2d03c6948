import { parseHttpDate } from './http-date.ts';

/** Both ends are inside, as in Content-Range (RFC 9110, section 14.4). */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * What a GET's Range asks for of a representation of `length` bytes (RFC 9110, sections 14.1.2 and 14.2). Undefined:
 * answer with the whole, since there is no such field, it has another unit, is invalid, or wants several ranges, all
 * of which a server may ignore.
 */
export function rangeOf(header: string | undefined, length: number): ByteRange | 'unsatisfiable' | undefined {
  if (header === undefined) return undefined;
  // The unit's name has no case (section 14.1). The space that the examples of section 14.1.2 have after "=" is allowed.
  const [, set = ''] = /^bytes=(.*)$/i.exec(header) ?? [];
  const [spec = '', ...others] = set.split(',').filter((each) => !/^[ \t]*$/.test(each));
  const [, first = '', last = ''] = /^[ \t]*(\d*)-(\d*)[ \t]*$/.exec(spec) ?? [];
  if (others.length > 0 || (first === '' && last === '')) return undefined;
  if (first === '') return lastBytes(Number(last), length);
  // Exact, whatever the number of digits: an invalid range is ignored, one that is too far away is refused.
  if (last !== '' && isLess(last, first)) return undefined;
  if (Number(first) >= length) return 'unsatisfiable';
  return { start: Number(first), end: last === '' ? length - 1 : Math.min(Number(last), length - 1) };
}

/** Compares whole numbers by their digits; reading 16 kB of them as a BigInt takes quadratic time. */
function isLess(digits: string, other: string): boolean {
  const a = withoutZeros(digits);
  const b = withoutZeros(other);
  return a.length === b.length ? a < b : a.length < b.length;
}

function withoutZeros(digits: string): string {
  return digits.replace(/^0+/, '');
}

/** A suffix of nothing is satisfiable (section 14.1.2), but no Content-Range can tell of it: the whole says the same. */
function lastBytes(count: number, length: number): ByteRange | 'unsatisfiable' | undefined {
  if (count === 0) return 'unsatisfiable';
  return length === 0 ? undefined : { start: Math.max(0, length - count), end: length - 1 };
}

/**
 * Whether Range counts as far as If-Range is concerned (RFC 9110, section 13.1.5): without the field it does; a tag
 * must be the same by strong comparison, a date must be Last-Modified to the letter.
 *
 * A date is a strong validator for a cache only when the stored response's Date is a second or more later (section
 * 8.8.2.2), which is looked at when `date` is given. Who leaves it out knows that the response did not change twice
 * within that second.
 */
export function ifRangeMatches(
  header: string | undefined,
  etag: string | undefined,
  lastModified: string | undefined,
  date?: string | undefined,
): boolean {
  if (header === undefined) return true;
  if (isStrongTag(header)) return header === etag;
  const modified = parseHttpDate(header);
  if (modified === undefined || header !== lastModified) return false;
  return date === undefined || (parseHttpDate(date) ?? modified) - modified >= 1_000;
}

/**
 * The range that a 206 with one part sends, and the length of the whole (RFC 9110, section 14.4). Undefined for a field that
 * is invalid, has another unit, or does not name the length.
 */
export function contentRangeOf(header: string): (ByteRange & { readonly length: number }) | undefined {
  const [, first, last, whole] = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/i.exec(header.trim()) ?? [];
  const [start, end, length] = [Number(first), Number(last), Number(whole)];
  return start <= end && end < length ? { start, end, length } : undefined;
}

/** RFC 9110, section 8.8.3. A weak one, or one that is malformed, is no date either. */
export function isStrongTag(text: string): boolean {
  return /^"[\x21\x23-\x7e\x80-\xff]*"$/.test(text);
}
