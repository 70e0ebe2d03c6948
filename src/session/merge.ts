import { hasOtherMaxAge } from './cookie-lifetime.ts';
import type { SessionMeta, SessionPayload } from './payload.ts';
import type { Entries, SessionEntries } from './seal.ts';

type Contents = Pick<SessionPayload, 'meta' | 'content'>;

type JsonObject = Readonly<Record<string, unknown>>;

/** The keys of a session with the JSON of their values. */
export function entriesOf({ meta, content }: Contents): SessionEntries {
  return { meta: changedValues({}, { ...meta }), content: content.entries() };
}

/** The keys that a request has added, changed or deleted since it loaded or saved the session. Values are whole. */
export function changesOf(base: Contents, mine: Contents): SessionEntries {
  // A request that did not change the cookie must not undo the change of another request.
  const cookie = isOtherCookie(mine.meta.cookie, base.meta.cookie) ? mine.meta.cookie : base.meta.cookie;
  return {
    meta: changedValues({ ...base.meta }, { ...mine.meta, cookie }),
    content: base.content.changesTo(mine.content),
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

function isOtherCookie(cookie: SessionMeta['cookie'], stored: SessionMeta['cookie']): boolean {
  return hasOtherMaxAge(cookie, stored) || hasOther(cookie, stored) || hasOther(stored, cookie);
}

/** Compares all attributes but the lifetime: each use of the session moves the expiry. */
function hasOther(cookie: JsonObject, other: JsonObject): boolean {
  for (const name in cookie) {
    if (cookie[name] !== other[name] && name !== 'expires' && name !== 'originalMaxAge') return true;
  }
  return false;
}

function changedValues(before: JsonObject, after: JsonObject): Entries {
  const changes = new Map<string, string | undefined>();
  for (const name of Object.keys(after)) {
    const value = after[name];
    const isSame = isSameJson(value, Object.hasOwn(before, name) ? before[name] : undefined);
    // The JSON of undefined is undefined, which deletes the key.
    if (!isSame) changes.set(name, JSON.stringify(value));
  }
  for (const name of Object.keys(before)) if (!Object.hasOwn(after, name)) changes.set(name, undefined);
  return changes;
}

function isSameJson(one: unknown, other: unknown): boolean {
  if (one === other) return true;
  return (
    typeof one === 'object' && typeof other === 'object' && JSON.stringify(one) === JSON.stringify(other)
  );
}
