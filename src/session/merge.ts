import { hasOtherLife } from './cookie-life.ts';
import type { SessionPayload } from './payload.ts';

/**
 * What a request writes when others may have written since it read `base`: data, user and cookie, each as this request
 * has it where it changed it.
 */
export function mergePayloads(
  base: SessionPayload,
  mine: SessionPayload,
  theirs: SessionPayload,
  conflicts: 'merge' | 'last-write',
): SessionPayload {
  // A cookie that this request has not touched must not undo what another has done to it.
  const isOwnCookie =
    hasOtherLife(mine.meta.cookie, base.meta.cookie) || !hasOtherLife(theirs.meta.cookie, base.meta.cookie);
  const { cookie } = isOwnCookie ? mine.meta : theirs.meta;
  const meta = { ...theirs.meta, ...mine.meta, cookie };
  if (conflicts === 'last-write') return { ...mine, meta };
  const content = mergeContents(base.content, mine.content, theirs.content);
  return { content, meta, userId: mine.userId === base.userId ? theirs.userId : mine.userId };
}

/**
 * What a session is when two requests have changed it: of the top-level keys, those that `mine` added, changed or
 * deleted since `base` are as in `mine`, all others as in `theirs`. Values are replaced whole. All are JSON of an
 * object, and so is the answer.
 */
export function mergeContents(base: string, mine: string, theirs: string): string {
  if (base === theirs) return mine;
  const [before, own, merged] = [base, mine, theirs].map(entriesOf) as [Entries, Entries, Entries];
  for (const key of new Set([...before.keys(), ...own.keys()])) {
    const value = own.get(key);
    if (value === before.get(key)) continue;
    if (value === undefined) merged.delete(key);
    else merged.set(key, value);
  }
  return `{${Array.from(merged, ([key, value]) => `${JSON.stringify(key)}:${value}`).join(',')}}`;
}

/** Keys with the JSON of their values: what is not merged is not made anew. */
type Entries = Map<string, string>;

function entriesOf(json: string): Entries {
  const object = JSON.parse(json) as Record<string, unknown>;
  return new Map(Object.entries(object).map(([key, value]) => [key, JSON.stringify(value)]));
}
