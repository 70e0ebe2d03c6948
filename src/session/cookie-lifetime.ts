/** The lifetime of a cookie, in a session or in the store. */
export interface CookieLifetime {
  readonly originalMaxAge?: unknown;
}

/** Whether the cookie of a session has another `maxAge` than the stored cookie. */
export function hasOtherMaxAge(cookie: CookieLifetime, stored: CookieLifetime): boolean {
  const [own, before] = [cookie.originalMaxAge ?? null, stored.originalMaxAge ?? null];
  return typeof own === 'number' && typeof before === 'number' ? !isSameMaxAge(own, before) : own !== before;
}

/** The stored cookie with a new expiry: each use of the session starts the whole `maxAge` again. */
export function renewedCookie<Stored extends CookieLifetime>(
  cookie: Stored,
  usedAt: number = Date.now(),
): Stored {
  const { originalMaxAge } = cookie;
  if (typeof originalMaxAge !== 'number') return cookie;
  return { ...cookie, expires: new Date(usedAt + originalMaxAge) };
}

/** Tolerates a difference of 1 s: express-session may derive `maxAge` from the expiry, a little too short. */
export function isSameMaxAge(one: number, other: number): boolean {
  return Math.abs(one - other) <= 1_000;
}
