import type { IncomingMessage } from 'node:http';
import { isStrongTag } from './byte-range.ts';
import { parseHttpDate } from './http-date.ts';
import { trimWhitespace } from './optional-whitespace.ts';

/** The fields of a response that distinguish its versions, as they were sent. */
export interface Validators {
  readonly etag?: string | undefined;
  readonly lastModified?: string | undefined;
  readonly date?: string | undefined;
}

const VALIDATORS: ReadonlyMap<string, keyof Validators> = new Map([
  ['etag', 'etag'],
  ['last-modified', 'lastModified'],
  ['date', 'date'],
]);

/** Finds the validators among headers whose names may be in any case. */
export function validatorsOf(
  headers: Iterable<readonly [name: string, value: string | readonly string[]]>,
): Validators {
  const validators: { -readonly [name in keyof Validators]: Validators[name] } = {};
  for (const [name, value] of headers) {
    const validator = VALIDATORS.get(name.toLowerCase());
    if (validator !== undefined) validators[validator] = String(value);
  }
  return validators;
}

/**
 * Whether to answer with 304. If-Modified-Since is ignored with If-None-Match (RFC 9110, section 13.2.2), and both are
 * ignored for methods other than GET, HEAD and QUERY (RFC 10008).
 */
export function isNotModified(
  req: Pick<IncomingMessage, 'method' | 'headers'>,
  validators: Validators,
): boolean {
  const { 'if-none-match': tags, 'if-modified-since': since } = req.headers;
  if (tags === undefined && since === undefined) return false;
  if (req.method !== 'GET' && req.method !== 'HEAD' && req.method !== 'QUERY') return false;
  if (tags !== undefined) return isListed(validators.etag, tags);
  return since !== undefined && isUnchangedSince(validators, since);
}

/**
 * Whether two responses have the same bytes (RFC 9110, section 8.8.1): the same strong ETag, or, if neither has an ETag, the
 * same Last-Modified, at least a second before the Date of each (section 8.8.2.2).
 */
export function haveSameStrongValidator(one: Validators, other: Validators): boolean {
  if (one.etag !== undefined || other.etag !== undefined) {
    return one.etag === other.etag && isStrongTag(one.etag ?? '');
  }
  return one.lastModified === other.lastModified && [one, other].every(isModifiedBefore);
}

function isModifiedBefore({ lastModified, date }: Validators): boolean {
  const modified = parseHttpDate(lastModified ?? '');
  const sent = parseHttpDate(date ?? '');
  return modified !== undefined && sent !== undefined && sent - modified >= 1_000;
}

/** Whether an If-None-Match field lists the entity tag, by weak comparison (RFC 9110, section 13.1.2). */
function isListed(etag: string | undefined, header: string): boolean {
  if (trimWhitespace(header) === '*') return true;
  if (etag === undefined) return false;
  const opaque = (tag: string) => tag.replace(/^W\//, '');
  const tags = header.match(/(?:W\/)?"[^"]*"/g) ?? [];
  return tags.some((tag) => opaque(tag) === opaque(etag));
}

/**
 * Whether the response is unchanged since the date of If-Modified-Since. An invalid date is ignored (RFC 9110, section
 * 13.1.3). Without Last-Modified, the Date of the stored response is used (RFC 9111, section 4.3.2), but not in place
 * of an invalid Last-Modified.
 */
function isUnchangedSince({ lastModified, date }: Validators, header: string): boolean {
  const since = parseHttpDate(header);
  const modified = parseHttpDate(lastModified ?? date ?? '');
  return since !== undefined && modified !== undefined && modified <= since;
}
