import type { Duration } from '../base/duration.ts';
import { LIFETIME_NAMES, renamed } from '../base/foreign-options.ts';
import { OptionReader } from '../base/option-reader.ts';
import { ttlOption } from '../base/timed-options.ts';

export interface MembersOptions {
  /** How long a member is kept after it was added; null keeps it until it is removed. */
  readonly ttl: Duration | null;
}

export interface MembersAddOptions {
  /** The lifetime of this member; default: the `ttl` of the set. */
  readonly ttl?: Duration | null | undefined;
}

export interface MembersListOptions {
  /** The `next` of the page before; default: the beginning. */
  readonly after?: string | undefined;
  /** The most members of the page; from 1 to 1,000, default 100. */
  readonly limit?: number | undefined;
}

const MAX_PAGE = 1_000;
const DEFAULT_PAGE = 100;

const ELSEWHERE = renamed('ttl', ...LIFETIME_NAMES.filter((name) => name !== 'ttl'));

export function readMembersOptions(options: MembersOptions): number | null {
  return ttlOption(new OptionReader('kit.members', options, ['ttl'], ELSEWHERE));
}

/** The lifetime of a member in milliseconds; null for none. */
export function readAddOptions(options: MembersAddOptions, ttlOfSet: number | null): number | null {
  const reader = new OptionReader('kit.members.add', options, ['ttl'], ELSEWHERE);
  return reader.has('ttl') ? ttlOption(reader) : ttlOfSet;
}

/** `after` is the member to continue after; empty for the beginning. */
export function readListOptions(options: MembersListOptions): {
  readonly after: string;
  readonly limit: number;
} {
  const reader = new OptionReader('kit.members.list', options, ['after', 'limit']);
  const limit = reader.integer('limit', { min: 1, max: MAX_PAGE }) ?? DEFAULT_PAGE;
  const cursor = reader.value('after');
  if (cursor === undefined) return { after: '', limit };
  const after = typeof cursor === 'string' ? Buffer.from(cursor, 'base64url').toString() : '';
  if (after === '' || cursorOf(after) !== cursor)
    throw reader.error('after', 'it must be the `next` of a page');
  return { after, limit };
}

/** The cursor of the page after a member, which need not exist any more. */
export function cursorOf(member: string): string {
  return Buffer.from(member).toString('base64url');
}
