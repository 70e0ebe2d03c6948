import type { CookieOptions as ExpressSessionCookie } from 'express-session';
import type { Duration } from '../base/duration.ts';
import { renamed } from '../base/foreign-options.ts';
import type { OptionReader } from '../base/option-reader.ts';
import { readSettings } from '../base/settings.ts';
import type { Req } from '../http/middleware.ts';

/** The cookie options of express-session. */
export type CookieOptions = Pick<
  ExpressSessionCookie,
  'domain' | 'httpOnly' | 'partitioned' | 'path' | 'priority' | 'secure'
> & {
  /** `'auto'`: `'none'` over TLS, else `'lax'`. Default `'lax'`. */
  readonly sameSite?: ExpressSessionCookie['sameSite'] | 'auto' | undefined;
  /** How long the browser keeps the cookie. Default: until the browser exits; then only the server ends the session. */
  readonly maxAge?: Duration | null | undefined;
};

/** Cookie options with `maxAge` in ms, as express-session accepts them. */
type ResolvedCookie = Omit<CookieOptions, 'maxAge'> & { readonly maxAge?: number };

const COOKIE_NAMES = [
  'domain',
  'httpOnly',
  'maxAge',
  'partitioned',
  'path',
  'priority',
  'sameSite',
  'secure',
] as const;

/** The options of all cookies, or a function that returns the cookie options for one request. */
export type CookieSetting = ResolvedCookie | ((req: Req) => ResolvedCookie);

export function resolveCookie(reader: OptionReader, name: string): CookieSetting {
  const given = reader.value('cookie');
  if (typeof given !== 'function') return checkedCookie(reader, name, given === undefined ? {} : given);
  return (req) => checkedCookie(reader, name, given(req));
}

function checkedCookie(reader: OptionReader, name: string, given: unknown): ResolvedCookie {
  const cookie = cookieOf(given);
  // Browsers ignore the case of the prefixes (RFC 6265bis, section 4.1.3).
  const isHost = /^__host-/i.test(name);
  if ((isHost || /^__secure-/i.test(name)) && cookie.secure !== true) {
    throw reader.error('name', 'browsers accept this prefix only with `cookie: { secure: true }`');
  }
  if (isHost && (cookie.path !== '/' || cookie.domain !== undefined)) {
    throw reader.error('name', `browsers accept this prefix only with the path '/' and without a domain`);
  }
  return cookie;
}

/** Whether a request came over TLS, by the rules of express-session. `isProxied`: the option `proxy`. */
export function isSecure(req: Req, isProxied: boolean | undefined): boolean {
  if (Reflect.get(req.socket ?? {}, 'encrypted') === true) return true;
  if (isProxied === undefined) return req.secure === true;
  const [proto = ''] = String(req.headers['x-forwarded-proto'] ?? '').split(',');
  return isProxied && proto.trim().toLowerCase() === 'https';
}

function cookieOf(given: unknown): ResolvedCookie {
  const names = { known: COOKIE_NAMES, elsewhere: renamed('maxAge', 'expires', 'ttl', 'expire') };
  const cookie = readSettings('kit.session({ cookie })', given, names, (reader) => ({
    path: () => pathOption(reader),
    httpOnly: () => reader.boolean('httpOnly', true),
    sameSite: () => sameSiteOption(reader),
    secure: () => secureOption(reader),
    domain: () => domainOption(reader),
    maxAge: () => (reader.value('maxAge') === null ? undefined : reader.duration('maxAge')),
    partitioned: () => partitionedOption(reader),
    priority: () =>
      reader.has('priority') ? reader.oneOf('priority', ['low', 'medium', 'high'], 'medium') : undefined,
  }));
  // express-session treats undefined as a value, so options without a value are left out.
  return Object.fromEntries(Object.entries(cookie).filter(([, value]) => value !== undefined));
}

function pathOption(reader: OptionReader): string {
  const path = reader.string('path') ?? '/';
  if (/^\/[\x20-\x3a\x3d-\x7e]*$/.test(path)) return path;
  throw reader.error('path', `it must begin with '/' and have no character that a cookie may not have`);
}

function domainOption(reader: OptionReader): string | undefined {
  const domain = reader.string('domain');
  if (domain === undefined || /^\.?[a-z0-9-]+(\.[a-z0-9-]+)*$/i.test(domain)) return domain;
  throw reader.error('domain', `it must be a host name like 'example.com'`);
}

function secureOption(reader: OptionReader): boolean | 'auto' {
  return reader.oneOf('secure', [true, false, 'auto'], 'auto');
}

function sameSiteOption(reader: OptionReader): NonNullable<CookieOptions['sameSite']> {
  const sameSite = reader.oneOf('sameSite', [true, false, 'lax', 'strict', 'none', 'auto'], 'lax');
  if (sameSite !== 'none' || secureOption(reader) !== false) return sameSite;
  throw reader.error('sameSite', 'browsers accept this only in a cookie with `secure: true`');
}

function partitionedOption(reader: OptionReader): boolean | undefined {
  if (!reader.has('partitioned')) return undefined;
  const partitioned = reader.boolean('partitioned', false);
  if (!partitioned || secureOption(reader) !== false) return partitioned;
  throw reader.error('partitioned', 'browsers accept this only in a cookie with `secure: true`');
}
