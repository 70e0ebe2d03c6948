/** The lifetime of a cookie, as the session or the store has it. */
export interface CookieLifetime {
  readonly originalMaxAge?: unknown;
}

/** Whether a session's cookie has another `maxAge` than the stored one. */
export function hasOtherMaxAge(cookie: CookieLifetime, stored: CookieLifetime): boolean {
  const [own, before] = [cookie.originalMaxAge ?? null, stored.originalMaxAge ?? null];
  return typeof own === 'number' && typeof before === 'number' ? !isSameMaxAge(own, before) : own !== before;
}

/** A stored cookie after its session was used: the use starts the whole `maxAge` again. */
export function renewedCookie<Stored extends CookieLifetime>(
  cookie: Stored,
  usedAt: number = Date.now(),
): Stored {
  const { originalMaxAge } = cookie;
  if (typeof originalMaxAge !== 'number') return cookie;
  return { ...cookie, expires: new Date(usedAt + originalMaxAge) };
}

/** Tolerates a difference: express-session derives a `maxAge` from an expiry, which makes it a little shorter. */
export function isSameMaxAge(one: number, other: number): boolean {
  return Math.abs(one - other) <= 1_000;
}
