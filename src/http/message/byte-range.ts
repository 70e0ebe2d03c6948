import { parseHttpDate } from './http-date.ts';
import { trimWhitespace } from './optional-whitespace.ts';

/** Both positions are inclusive, as in Content-Range (RFC 9110, section 14.4). */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * The range that a GET requests of a representation of `length` bytes (RFC 9110, sections 14.1.2 and 14.2). Undefined
 * means to send the whole representation: the field is absent, invalid, has another unit, or lists several ranges.
 */
export function rangeOf(header: string | undefined, length: number): ByteRange | 'unsatisfiable' | undefined {
  if (header === undefined) return undefined;
  // The unit is case-insensitive (section 14.1). A space after "=" is allowed, as in the examples of section 14.1.2.
  const [, set = ''] = /^bytes=(.*)$/i.exec(header) ?? [];
  const [spec = '', ...others] = set.split(',').filter((each) => !/^[ \t]*$/.test(each));
  const [, first = '', last = ''] = /^[ \t]*(\d*)-(\d*)[ \t]*$/.exec(spec) ?? [];
  if (others.length > 0 || (first === '' && last === '')) return undefined;
  if (first === '') return lastBytes(Number(last), length);
  // Compared exactly for any number of digits, since an invalid range is ignored, but a range beyond the end is
  // unsatisfiable.
  if (last !== '' && isLess(last, first)) return undefined;
  if (Number(first) >= length) return 'unsatisfiable';
  return { start: Number(first), end: last === '' ? length - 1 : Math.min(Number(last), length - 1) };
}

/** Compares numbers as text, since converting 16 kB of digits to a BigInt takes quadratic time. */
function isLess(digits: string, other: string): boolean {
  const a = withoutZeros(digits);
  const b = withoutZeros(other);
  return a.length === b.length ? a < b : a.length < b.length;
}

function withoutZeros(digits: string): string {
  return digits.replace(/^0+/, '');
}

/** An empty representation is sent whole: Content-Range cannot describe an empty range (RFC 9110, section 14.4). */
function lastBytes(count: number, length: number): ByteRange | 'unsatisfiable' | undefined {
  if (count === 0) return 'unsatisfiable';
  return length === 0 ? undefined : { start: Math.max(0, length - count), end: length - 1 };
}

/**
 * Whether If-Range allows a partial response (RFC 9110, section 13.1.5): if the field is absent, if its entity tag is the same
 * by strong comparison, or if its date equals Last-Modified exactly.
 *
 * For a cache, a date is a strong validator only if the stored Date is at least a second later (section 8.8.2.2). The
 * rule is checked if `date` is given; a caller that omits `date` knows that the response did not change twice within
 * that second.
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
 * The range of a 206 response with one part, and the length of the whole (RFC 9110, section 14.4). Undefined for a field that
 * is invalid, has another unit, or has no complete length.
 */
export function contentRangeOf(header: string): (ByteRange & { readonly length: number }) | undefined {
  const [, first, last, whole] =
    /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/i.exec(trimWhitespace(header)) ?? [];
  const [start, end, length] = [Number(first), Number(last), Number(whole)];
  return start <= end && end < length ? { start, end, length } : undefined;
}

/** Whether a text is a strong entity tag (RFC 9110, section 8.8.3). */
export function isStrongTag(text: string): boolean {
  return /^"[\x21\x23-\x7e\x80-\xff]*"$/.test(text);
}
