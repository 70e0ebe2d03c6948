import type { IncomingMessage } from 'node:http';
import { types } from 'node:util';
import type { Duration } from '../base/duration.ts';
import { AMOUNT_NAMES, LIFETIME_NAMES, renamed } from '../base/foreign-options.ts';
import { OptionReader } from '../base/option-reader.ts';
import { readSettings } from '../base/settings.ts';
import { valueSizeOption } from '../base/size-options.ts';
import type { Req } from '../http/middleware.ts';
import { checkNotMounted } from '../http/mount-check.ts';
import { type CookieOptions, type CookieSetting, resolveCookie } from './cookie-options.ts';
import type { RecordSettings } from './record.ts';
import { aesSeal, noSeal, type Seal } from './seal.ts';
import { type CookieSecret, resolveSecret, type Secrets } from './secret.ts';
import { touchAfterOption } from './store-options.ts';
import type { UserLimit } from './user-index.ts';

/** What happens when the session store cannot be reached. */
export type SessionOnError = 'error' | 'anonymous';

export interface SessionOptions<Request extends IncomingMessage = Req> {
  /**
   * Signs the session id in the cookie; of several, the first signs and all are accepted, so that it can be changed
   * without logging anyone out. A string of at least 8 characters, or bytes (a Buffer, another view or a secret
   * KeyObject) of at least 8. Required with Redis; on `memory:` one is made up, which ends with the process.
   */
  readonly secret?: CookieSecret | readonly CookieSecret[] | undefined;
  /** The cookie's name; default `connect.sid`. `__Host-` and `__Secure-` names need the cookie they promise. */
  readonly name?: string | undefined;
  /** Default `{ httpOnly: true, sameSite: 'lax', secure: 'auto', path: '/' }`; what is given replaces its part. */
  readonly cookie?: CookieOptions | ((req: Request) => CookieOptions) | undefined;
  /**
   * A session ends this long after its last use; default: the cookie's `maxAge` where it has one, else `'30m'`. One
   * whose cookie was given another `maxAge` by the handler, or by `login({ remember })`, ends after that.
   */
  readonly idle?: Duration | undefined;
  /** A session ends this long after its creation or login, whatever its use; default: never. */
  readonly absolute?: Duration | undefined;
  /**
   * The idle deadline is moved at most this often, so that reads seldom write; 0: with every use, and each read of a
   * session with a `userId` costs one command more. Default a tenth of `idle`, at most 60 s.
   * Of a session with a shorter life than `idle` the more often, in proportion.
   */
  readonly touchAfter?: Duration | undefined;
  /**
   * How many sessions a user may have. At one more the oldest end (`'evict-oldest'`), or the login rejects (`'reject'`),
   * and so does a save that gives a session its `userId`, which then ends. Default: any number.
   */
  readonly maxPerUser?: UserLimit | undefined;
  /**
   * The most bytes of a stored session, its data and cookie as JSON. A save above it rejects with
   * `ERR_REDIS_KIT_SESSION_DATA`, and the session stays as it was stored. Default 1 MiB.
   */
  readonly maxBytes?: number | undefined;
  /**
   * Parallel requests that change one session: what each has changed of its top-level keys is kept (`'merge'`, the
   * default; of one key the last wins), or the last request's session is (`'last-write'`).
   */
  readonly conflicts?: 'merge' | 'last-write' | undefined;
  /**
   * Keeps what is stored from those who can read Redis: AES-256-GCM with keys of 32 bytes, of which the first writes
   * and all read. Turning it on or off ends all sessions, since what was stored otherwise is not trusted.
   */
  readonly encrypt?: { readonly keys: readonly Uint8Array[] } | undefined;
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

export interface SessionSettings extends RecordSettings {
  readonly secret: Secrets | undefined;
  readonly name: string;
  readonly cookie: CookieSetting;
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
  'maxPerUser',
  'maxBytes',
  'conflicts',
  'encrypt',
  'onError',
  'rolling',
  'saveUninitialized',
  'unset',
  'genid',
  'proxy',
] as const;

const DEFAULT_NAME = 'connect.sid';

const DEFAULT_IDLE_MS = 30 * 60_000;

/** What users of express-session, connect-redis and cookie-session look for. */
const ELSEWHERE = {
  ...renamed('idle', ...LIFETIME_NAMES),
  ...renamed('name', 'key', 'cookieName'),
  ...renamed('touchAfter', 'touchInterval'),
  resave: 'leave it out: only what has changed is saved',
  store: 'the kit is the store; to keep express-session use kit.sessionStore()',
  maxAge: 'it belongs into `cookie`, or is `idle`',
  expires: 'it is `idle` here, or `maxAge` in `cookie`',
  disableTouch: 'it is `touchAfter` here: how seldom the use of a session is written',
  keys: 'it is `secret` here, which may be an array',
  httpOnly: 'it belongs into `cookie`',
  secure: 'it belongs into `cookie`',
  sameSite: 'it belongs into `cookie`',
  domain: 'it belongs into `cookie`',
  path: 'it belongs into `cookie`',
};

export function resolveSessionOptions(options: SessionOptions<never>): SessionSettings {
  checkNotMounted('kit.session', options);
  return readSettings('kit.session', options, { known: NAMES, elsewhere: ELSEWHERE }, (reader) => ({
    secret: () => resolveSecret(reader),
    name: () => nameOption(reader),
    cookie: () => cookieOption(reader),
    idle: () => idleOption(reader),
    cookieMaxAge: () => cookieMaxAge(reader),
    absolute: () => absoluteOption(reader),
    touchAfter: () => touchAfterOption(reader, () => idleOption(reader)),
    maxPerUser: () => resolveUserLimit(reader),
    maxBytes: () => valueSizeOption(reader, 'maxBytes'),
    conflicts: () => reader.oneOf('conflicts', ['merge', 'last-write'], 'merge'),
    seal: () => resolveSeal(reader),
    onError: () => reader.oneOf('onError', ['error', 'anonymous'], 'error'),
    rolling: () => reader.boolean('rolling', false),
    saveUninitialized: () => reader.boolean('saveUninitialized', false),
    unset: () => reader.oneOf('unset', ['destroy', 'keep'], 'keep'),
    genid: () => reader.callback<(req: Req) => string>('genid'),
    proxy: () => proxyOption(reader),
  }));
}

function nameOption(reader: OptionReader): string {
  const name = reader.string('name') ?? DEFAULT_NAME;
  // A token as RFC 6265, section 4.1.1, wants it.
  if (/^[\w!#$%&'*+.^`|~-]+$/.test(name)) return name;
  throw reader.error('name', 'it has characters that no cookie name may have');
}

function proxyOption(reader: OptionReader): boolean | undefined {
  return reader.has('proxy') ? reader.boolean('proxy', false) : undefined;
}

/** Takes `name` and `proxy` as they are: what is wrong with them is said where they are read themselves. */
function cookieOption(reader: OptionReader): CookieSetting {
  const proxy = reader.value('proxy');
  const name = String(reader.value('name') ?? DEFAULT_NAME);
  return resolveCookie(reader, name, typeof proxy === 'boolean' ? proxy : undefined);
}

function cookieMaxAge(reader: OptionReader): number | undefined {
  const cookie = cookieOption(reader);
  return typeof cookie === 'function' ? undefined : cookie.maxAge;
}

function idleOption(reader: OptionReader): number {
  return reader.duration('idle') ?? cookieMaxAge(reader) ?? DEFAULT_IDLE_MS;
}

function absoluteOption(reader: OptionReader): number {
  const absolute = reader.duration('absolute') ?? 0;
  if (absolute === 0 || absolute >= idleOption(reader)) return absolute;
  throw reader.error('absolute', 'it must not be shorter than `idle`');
}

function resolveUserLimit(reader: OptionReader): UserLimit | undefined {
  if (!reader.has('maxPerUser')) return undefined;
  const names = { known: ['limit', 'onExceed'], elsewhere: renamed('limit', ...AMOUNT_NAMES) };
  return readSettings('kit.session({ maxPerUser })', reader.value('maxPerUser'), names, (own) => ({
    limit: () => own.requiredInteger('limit', { min: 1, max: 10_000 }),
    onExceed: () => onExceedOption(own),
  }));
}

function onExceedOption(reader: OptionReader): UserLimit['onExceed'] {
  const onExceed = reader.oneOf('onExceed', ['evict-oldest', 'reject', undefined], undefined);
  if (onExceed !== undefined) return onExceed;
  throw reader.error('onExceed', `it must be 'evict-oldest' or 'reject'`);
}

function resolveSeal(reader: OptionReader): Seal {
  if (!reader.has('encrypt')) return noSeal;
  const keys = new OptionReader('kit.session({ encrypt })', reader.value('encrypt'), ['keys']).value('keys');
  const isKey = (key: unknown) => types.isUint8Array(key) && key.length === KEY_BYTES;
  if (Array.isArray(keys) && keys.length > 0 && keys.every(isKey)) {
    return aesSeal(keys.map((key: Uint8Array) => Uint8Array.from(key)));
  }
  throw reader.secretError(
    'encrypt',
    `\`keys\` must be an array of keys of ${KEY_BYTES} bytes, for example [randomBytes(32)]`,
  );
}

const KEY_BYTES = 32;
