import { isSameMaxAge } from './cookie-lifetime.ts';
import type { SessionMeta } from './payload.ts';
import type { Seal } from './seal.ts';
import type { UserLimit } from './user-index.ts';

export interface RecordSettings {
  /** Milliseconds without use after which a session expires. */
  readonly idle: number;
  /** Whether each `maxAge` of a cookie replaces `idle`, also that of the options, since the app has not set `idle`. */
  readonly followsCookie: boolean;
  /** The `maxAge` of new cookies; undefined for none, `'varies'` if a function of the app returns it. */
  readonly cookieMaxAge: number | 'varies' | undefined;
  /** Milliseconds after its creation at which a session expires even if it is used; 0 for no such limit. */
  readonly absolute: number;
  readonly touchAfter: number;
  readonly conflicts: 'merge' | 'last-write';
  readonly maxPerUser: UserLimit | undefined;
  readonly maxBytes: number;
  readonly seal: Seal;
}

/** The longest idle time: an expiry that is computed from it fits the six bytes of a stored time. */
const MAX_IDLE_MS = 2 ** 46;

/** Milliseconds without use after which a session expires: the `maxAge` set by its handler or login, else `idle`. */
export function idleOf({ cookie, remembered }: SessionMeta, settings: RecordSettings): number {
  const { idle, followsCookie } = settings;
  const maxAge = cookie.originalMaxAge;
  if (typeof maxAge !== 'number' || maxAge <= 0) return idle;
  const isOwn = followsCookie ? !isSameMaxAge(maxAge, idle) : (remembered ?? isUnusual(maxAge, settings));
  return isOwn ? Math.min(Math.ceil(maxAge), MAX_IDLE_MS) : idle;
}

/** Whether the handler may have set a `maxAge`, for a session that an earlier version of the kit has stored. */
function isUnusual(maxAge: number, { cookieMaxAge }: RecordSettings): boolean {
  if (cookieMaxAge === 'varies') return false;
  return cookieMaxAge === undefined || !isSameMaxAge(maxAge, cookieMaxAge);
}
