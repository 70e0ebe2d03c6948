import type { IncomingMessage } from 'node:http';
import type { CookieOptions as ExpressSessionCookie } from 'express-session';
import { OptionReader } from '../base/check.ts';
import type { Duration } from '../base/duration.ts';
import type { Req } from '../http/middleware.ts';

/** express-session's cookie options. Without `maxAge` the server alone decides how long a session lives. */
export type CookieOptions = Pick<
  ExpressSessionCookie,
  'domain' | 'httpOnly' | 'maxAge' | 'partitioned' | 'path' | 'priority' | 'sameSite' | 'secure'
>;

/** What happens when the session store cannot be reached. */
export type SessionOnError = 'error' | 'anonymous';

export interface SessionOptions<Request extends IncomingMessage = Req> {
  /**
   * Signs the session id in the cookie; of several, the first signs and all are accepted, so that it can be changed
   * without logging anyone out. Required with Redis; on `memory:` one is made up, which ends with the process.
   */
  readonly secret?: string | readonly string[] | undefined;
  /** The cookie's name; default `connect.sid`. `__Host-` and `__Secure-` names need the cookie they promise. */
  readonly name?: string | undefined;
  /** Default `{ httpOnly: true, sameSite: 'lax', secure: 'auto', path: '/' }`; what is given replaces its part. */
  readonly cookie?: CookieOptions | undefined;
  /** A session ends this long after its last use; default `'30m'`. */
  readonly idle?: Duration | undefined;
  /** A session ends this long after its creation, whatever its use; default: never. */
  readonly absolute?: Duration | undefined;
  /** The idle deadline is moved at most this often, so that reads seldom write; default a tenth of `idle`, at most 60 s. */
  readonly touchAfter?: Duration | undefined;
  /** Store out of reach: 503 (`'error'`, the default), or go on with an empty session that is never written. */
  readonly onError?: SessionOnError | undefined;
  /** Send the cookie with every response; default false. */
  readonly rolling?: boolean | undefined;
  /** Store a new session that nothing was written to; default false. */
  readonly saveUninitialized?: boolean | undefined;
  /** What `req.session = null` does: `'destroy'` the session or `'keep'` it in the store; default `'keep'`. */
  readonly unset?: 'destroy' | 'keep' | undefined;
  /** Makes the session id; default 24 random bytes. It must be unguessable and unique. */
  readonly genid?: ((req: Request) => string) | undefined;
  /** Whether to believe X-Forwarded-Proto for `secure: 'auto'`; default: Express's `trust proxy` setting. */
  readonly proxy?: boolean | undefined;
}

export interface SessionSettings {
  readonly secret: readonly string[] | undefined;
  readonly name: string;
  readonly cookie: CookieOptions;
  readonly idle: number;
  /** Milliseconds; 0: none. */
  readonly absolute: number;
  readonly touchAfter: number;
  readonly onError: SessionOnError;
  readonly rolling: boolean;
  readonly saveUninitialized: boolean;
  readonly unset: 'destroy' | 'keep';
  readonly genid: ((req: Req) => string) | undefined;
  readonly proxy: boolean | undefined;
}

const NAMES = [
  'secret',
  'name',
  'cookie',
  'idle',
  'absolute',
  'touchAfter',
  'onError',
  'rolling',
  'saveUninitialized',
  'unset',
  'genid',
  'proxy',
] as const;

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

const MAX_TOUCH_AFTER_MS = 60_000;

export function resolveSessionOptions(options: SessionOptions<never>): SessionSettings {
  const reader = new OptionReader('kit.session', options, NAMES);
  const name = reader.string('name') ?? 'connect.sid';
  // A token as RFC 6265, section 4.1.1, wants it.
  if (!/^[\w!#$%&'*.^`|~+-]+$/.test(name))
    throw reader.error('name', 'it has characters that no cookie name may have');
  const cookie = resolveCookie(reader, name);
  const idle = reader.duration('idle', '30m');
  const absolute = reader.duration('absolute') ?? 0;
  if (absolute > 0 && absolute < idle) throw reader.error('absolute', 'it must not be shorter than `idle`');
  const touchAfter = reader.duration(
    'touchAfter',
    Math.max(1, Math.min(MAX_TOUCH_AFTER_MS, Math.floor(idle / 10))),
  );
  if (touchAfter >= idle) throw reader.error('touchAfter', 'it must be shorter than `idle`');
  return Object.freeze({
    secret: resolveSecret(reader),
    name,
    cookie,
    idle,
    absolute,
    touchAfter,
    onError: reader.oneOf('onError', ['error', 'anonymous'], 'error'),
    rolling: reader.boolean('rolling', false),
    saveUninitialized: reader.boolean('saveUninitialized', false),
    unset: reader.oneOf('unset', ['destroy', 'keep'], 'keep'),
    genid: reader.callback<(req: Req) => string>('genid'),
    proxy: reader.has('proxy') ? reader.boolean('proxy', false) : undefined,
  });
}

function resolveSecret(reader: OptionReader): readonly string[] | undefined {
  const secret = reader.value('secret');
  if (secret === undefined) return undefined;
  const secrets: readonly unknown[] = Array.isArray(secret) ? secret : [secret];
  const isSecret = (value: unknown): value is string => typeof value === 'string' && value !== '';
  if (secrets.length > 0 && secrets.every(isSecret)) return secrets;
  throw reader.secretError('secret', 'it must be a string, or an array of them, and none may be empty');
}

function resolveCookie(reader: OptionReader, name: string): CookieOptions {
  const given = reader.value('cookie') === undefined ? {} : reader.value('cookie');
  const cookie = cookieOf(new OptionReader('kit.session({ cookie })', given, COOKIE_NAMES));
  // Browsers compare the prefixes without regard to case (RFC 6265bis, section 4.1.3).
  const isHost = /^__host-/i.test(name);
  if ((isHost || /^__secure-/i.test(name)) && cookie.secure !== true) {
    throw reader.error('name', 'browsers take this prefix only with `cookie: { secure: true }`');
  }
  if (isHost && (cookie.path !== '/' || cookie.domain !== undefined)) {
    throw reader.error('name', `browsers take this prefix only with the path '/' and without a domain`);
  }
  return cookie;
}

function cookieOf(reader: OptionReader): CookieOptions {
  const path = reader.string('path') ?? '/';
  const domain = reader.string('domain');
  const secure = reader.oneOf('secure', [true, false, 'auto'], 'auto');
  const sameSite = reader.oneOf('sameSite', [true, false, 'lax', 'strict', 'none'], 'lax');
  if (!/^\/[\x20-\x3a\x3d-\x7e]*$/.test(path)) {
    throw reader.error('path', `it must begin with '/' and have no character that a cookie may not have`);
  }
  if (domain !== undefined && !/^\.?[a-z0-9-]+(\.[a-z0-9-]+)*$/i.test(domain)) {
    throw reader.error('domain', `it must be a host name like 'example.com'`);
  }
  if (secure === false && sameSite === 'none') {
    throw reader.error('sameSite', 'browsers take this only from a cookie with `secure: true`');
  }
  if (secure === false && reader.value('partitioned') === true) {
    throw reader.error('partitioned', 'browsers take this only from a cookie with `secure: true`');
  }
  const maxAge = reader.duration('maxAge');
  // express-session takes an undefined for a value.
  return {
    path,
    httpOnly: reader.boolean('httpOnly', true),
    sameSite,
    secure,
    ...(domain === undefined ? {} : { domain }),
    ...(maxAge === undefined ? {} : { maxAge }),
    ...(reader.has('partitioned') ? { partitioned: reader.boolean('partitioned', false) } : {}),
    ...(reader.has('priority')
      ? { priority: reader.oneOf('priority', ['low', 'medium', 'high'], 'medium') }
      : {}),
  };
}
