import { hasOtherMaxAge } from './cookie-lifetime.ts';
import type { SessionPayload } from './payload.ts';

/** A session as this request loaded it (`base`), as this request saves it (`mine`), and as it is stored (`theirs`). */
interface Versions<Version> {
  readonly base: Version;
  readonly mine: Version;
  readonly theirs: Version;
}

/** Merges data, user and cookie: each is taken from `mine` if this request has changed it, else from `theirs`. */
export function mergePayloads(
  { base, mine, theirs }: Versions<SessionPayload>,
  conflicts: 'merge' | 'last-write',
): SessionPayload {
  // A request that did not change the cookie must not undo the change of another request.
  const isMine =
    hasOtherMaxAge(mine.meta.cookie, base.meta.cookie) ||
    !hasOtherMaxAge(theirs.meta.cookie, base.meta.cookie);
  const { cookie } = isMine ? mine.meta : theirs.meta;
  const meta = { ...theirs.meta, ...mine.meta, cookie };
  if (conflicts === 'last-write') return { ...mine, meta };
  const content = mergeContents(base.content, mine.content, theirs.content);
  return { content, meta, userId: mine.userId === base.userId ? theirs.userId : mine.userId };
}

/**
 * Merges JSON objects by their top-level keys. A key that `mine` has added, changed or deleted since `base` is taken
 * from `mine`, any other key from `theirs`. Values are replaced as a whole.
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

/** The top-level keys of a JSON object, each with the JSON of its value. */
type Entries = Map<string, string>;

function entriesOf(json: string): Entries {
  const object = JSON.parse(json) as Record<string, unknown>;
  return new Map(Object.entries(object).map(([key, value]) => [key, JSON.stringify(value)]));
}
