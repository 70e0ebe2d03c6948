import { hasOtherMaxAge } from './cookie-lifetime.ts';
import type { SessionMeta, SessionPayload } from './payload.ts';
import type { Entries, SessionEntries } from './seal.ts';

type Contents = Pick<SessionPayload, 'meta' | 'content'>;

/** The keys of a session with the JSON of their values. */
export function entriesOf({ meta, content }: Contents): SessionEntries {
  return { meta: changesBetween(new Map(), mapOf(meta)), content: changesBetween(new Map(), parse(content)) };
}

/** The keys that a request has added, changed or deleted since it loaded or saved the session. Values are whole. */
export function changesOf(base: Contents, mine: Contents): SessionEntries {
  return {
    meta: metaChanges(base.meta, mine.meta),
    content: changesBetween(parse(base.content), parse(mine.content)),
  };
}

/** The session of another request, with the changes of this request. */
export function withChanges(theirs: SessionEntries, changes: SessionEntries): SessionEntries {
  return { meta: merged(theirs.meta, changes.meta), content: merged(theirs.content, changes.content) };
}

function merged(theirs: Entries, changes: Entries): Entries {
  const all = new Map(theirs);
  for (const [name, value] of changes) {
    if (value === undefined) all.delete(name);
    else all.set(name, value);
  }
  return all;
}

function metaChanges(base: SessionMeta, mine: SessionMeta): Entries {
  const before = mapOf(base);
  const after = mapOf({ ...base, ...mine });
  // A request that did not change the cookie must not undo the change of another request.
  if (!isOtherCookie(mine.cookie, base.cookie)) after.set('cookie', before.get('cookie'));
  return changesBetween(before, after);
}

function isOtherCookie(cookie: SessionMeta['cookie'], stored: SessionMeta['cookie']): boolean {
  const names = new Set([...Object.keys(cookie), ...Object.keys(stored)]);
  // Each use of the session moves the expiry, and the maximum age has a tolerance.
  for (const name of ['expires', 'originalMaxAge']) names.delete(name);
  return hasOtherMaxAge(cookie, stored) || Array.from(names).some((name) => cookie[name] !== stored[name]);
}

type Values = Map<string, unknown>;

function changesBetween(before: Values, after: Values): Entries {
  const changes = new Map<string, string | undefined>();
  for (const [name, value] of after) {
    const isSame = before.has(name) && isSameJson(value, before.get(name));
    if (!isSame) changes.set(name, JSON.stringify(value));
  }
  for (const name of before.keys()) if (!after.has(name)) changes.set(name, undefined);
  return changes;
}

function isSameJson(one: unknown, other: unknown): boolean {
  if (one === other) return true;
  return (
    typeof one === 'object' && typeof other === 'object' && JSON.stringify(one) === JSON.stringify(other)
  );
}

/** The keys of an object whose values have a JSON form. */
function mapOf(object: object): Values {
  return new Map(Object.entries(object).filter(([, value]) => value !== undefined));
}

function parse(content: string): Values {
  return new Map(Object.entries(JSON.parse(content) as object));
}
