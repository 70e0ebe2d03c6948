/** What a cookie says of its life, in the session or as it is stored. */
export interface CookieLife {
  readonly originalMaxAge?: unknown;
}

/** Whether a session's cookie was given another life than it was stored with. */
export function hasOtherLife(cookie: CookieLife, stored: CookieLife): boolean {
  const [own, before] = [cookie.originalMaxAge ?? null, stored.originalMaxAge ?? null];
  return typeof own === 'number' && typeof before === 'number' ? !isSameLife(own, before) : own !== before;
}

/** A stored cookie as it is after a use, which gives the session its whole life again. */
export function renewed<Kept extends CookieLife>(cookie: Kept, usedAt: number = Date.now()): Kept {
  const { originalMaxAge } = cookie;
  if (typeof originalMaxAge !== 'number') return cookie;
  return { ...cookie, expires: new Date(usedAt + originalMaxAge) };
}

/** express-session computes a `maxAge` back from an expiry, and so it may be a little less than it was. */
export function isSameLife(one: number, other: number): boolean {
  return Math.abs(one - other) <= 1_000;
}
