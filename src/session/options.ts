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
import type { RecordSettings } from './record-settings.ts';
import { aesSeal, noSeal, type Seal } from './seal.ts';
import { type CookieSecret, resolveSecret, type Secrets } from './secret.ts';
import { DEFAULT_IDLE_MS, touchAfterOption } from './store/store-options.ts';
import type { UserLimit } from './user-index.ts';

/** How a request is handled while the session store is unavailable. */
export type SessionOnError = 'error' | 'anonymous';

export interface SessionOptions<Request extends IncomingMessage = Req> {
  /**
   * Signs the session id in the cookie. In an array, the first secret signs and all are accepted, so that the secret
   * can be changed while users stay logged in. A string of at least 8 characters, or at least 8 bytes (a Buffer,
   * another view or a secret KeyObject). Required with Redis; on `memory:` a random secret is the default, which is
   * lost with the process.
   */
  readonly secret?: CookieSecret | readonly CookieSecret[] | undefined;
  /** The cookie's name; default `connect.sid`. The prefixes `__Host-` and `__Secure-` need matching cookie options. */
  readonly name?: string | undefined;
  /**
   * The attributes of the cookie, or a function that returns them for a request. Default
   * `{ httpOnly: true, sameSite: 'lax', secure: 'auto', path: '/' }`; each attribute that is set replaces its default.
   */
  readonly cookie?: CookieOptions | ((req: Request) => CookieOptions) | undefined;
  /**
   * How long after its last use a session expires; default: the `maxAge` of the cookie, else `'30m'`. If a handler or
   * `login()` with `remember` sets another `maxAge`, the session expires after that `maxAge` instead.
   */
  readonly idle?: Duration | undefined;
  /** How long after its creation or login a session expires even if it is used; default: no such limit. */
  readonly absolute?: Duration | undefined;
  /**
   * The shortest time between two moves of the idle deadline, so that most reads write nothing. Default a tenth of
   * `idle`, at most 60 s. With 0, every use moves the deadline, and each read of a session with a `userId` costs one
   * more command. For a session with a shorter lifetime than `idle`, the time is shorter in proportion.
   */
  readonly touchAfter?: Duration | undefined;
  /**
   * The most sessions of a user. Above the limit, the oldest sessions are revoked (`'evict-oldest'`), or the login
   * rejects (`'reject'`); a save that sets the `userId` rejects as well, and destroys its session. Default: unlimited.
   */
  readonly maxPerUser?: UserLimit | undefined;
  /**
   * The most bytes that a session may take, with its data and cookie as JSON. The save of a larger session rejects with
   * `ERR_REDIS_KIT_SESSION_DATA`, and the stored session does not change. Default 1 MiB.
   */
  readonly maxBytes?: number | undefined;
  /**
   * How the changes of parallel requests to one session are combined. `'merge'`, the default, keeps the top-level keys
   * that each request has changed, and of the same key the last change. `'last-write'` keeps the data of the last save.
   */
  readonly conflicts?: 'merge' | 'last-write' | undefined;
  /**
   * Encrypts stored sessions with AES-256-GCM and keys of 32 bytes. The first key encrypts, all keys decrypt. Turning
   * encryption on or off ends all sessions, since values in the other form are not accepted.
   */
  readonly encrypt?: { readonly keys: readonly Uint8Array[] } | undefined;
  /**
   * The failure policy while the store is unavailable: answer with 503 (`'error'`, the default), or continue with an
   * empty session that is never saved (`'anonymous'`).
   */
  readonly onError?: SessionOnError | undefined;
  /** Whether to send the session cookie with every response, and not only when the session begins; default false. */
  readonly rolling?: boolean | undefined;
  /** Whether to store a new session to which nothing was written; default false. */
  readonly saveUninitialized?: boolean | undefined;
  /** Whether `req.session = null` destroys the session (`'destroy'`) or leaves it stored (`'keep'`, the default). */
  readonly unset?: 'destroy' | 'keep' | undefined;
  /** Returns a new session id, which must be unguessable and unique; default 24 random bytes. */
  readonly genid?: ((req: Request) => string) | undefined;
  /** Whether `secure: 'auto'` trusts X-Forwarded-Proto; default: Express's `trust proxy` setting. */
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

/** Options of express-session, connect-redis and cookie-session, and what replaces them. */
const HINTS = {
  ...renamed('idle', ...LIFETIME_NAMES),
  ...renamed('name', 'key', 'cookieName'),
  ...renamed('touchAfter', 'touchInterval'),
  resave: 'leave it out: only what has changed is saved',
  store: 'the kit is the store; to keep express-session use kit.sessionStore()',
  maxAge: 'it belongs in `cookie`, or is `idle`',
  expires: 'it is `idle` here, or `maxAge` in `cookie`',
  disableTouch: 'it is `touchAfter` here: how often the use of a session is written at most',
  keys: 'it is `secret` here, which may be an array',
  httpOnly: 'it belongs in `cookie`',
  secure: 'it belongs in `cookie`',
  sameSite: 'it belongs in `cookie`',
  domain: 'it belongs in `cookie`',
  path: 'it belongs in `cookie`',
};

export function resolveSessionOptions(options: SessionOptions<never>): SessionSettings {
  checkNotMounted('kit.session', options);
  return readSettings('kit.session', options, { known: NAMES, elsewhere: HINTS }, (reader) => ({
    secret: () => resolveSecret(reader),
    name: () => nameOption(reader),
    cookie: () => cookieOption(reader),
    idle: () => idleOption(reader),
    followsCookie: () => reader.duration('idle') === undefined,
    cookieMaxAge: () => cookieMaxAge(reader),
    absolute: () => absoluteOption(reader),
    touchAfter: () => touchAfterOption(reader, () => idleOption(reader)),
    maxPerUser: () => userLimitOption(reader),
    maxBytes: () => valueSizeOption(reader, 'maxBytes'),
    conflicts: () => reader.oneOf('conflicts', ['merge', 'last-write'], 'merge'),
    seal: () => sealOption(reader),
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
  // A cookie name is a token (RFC 6265, section 4.1.1).
  if (/^[\w!#$%&'*+.^`|~-]+$/.test(name)) return name;
  throw reader.error('name', 'it has characters that no cookie name may have');
}

function proxyOption(reader: OptionReader): boolean | undefined {
  return reader.has('proxy') ? reader.boolean('proxy', false) : undefined;
}

/** Reads the option `cookie`. An invalid value of `name` is reported when that option is read. */
function cookieOption(reader: OptionReader): CookieSetting {
  return resolveCookie(reader, String(reader.value('name') ?? DEFAULT_NAME));
}

function cookieMaxAge(reader: OptionReader): number | 'varies' | undefined {
  const cookie = cookieOption(reader);
  return typeof cookie === 'function' ? 'varies' : cookie.maxAge;
}

function idleOption(reader: OptionReader): number {
  const maxAge = cookieMaxAge(reader);
  const usual = typeof maxAge === 'number' ? maxAge : DEFAULT_IDLE_MS;
  return reader.duration('idle') ?? usual;
}

function absoluteOption(reader: OptionReader): number {
  const absolute = reader.duration('absolute') ?? 0;
  if (absolute === 0 || absolute >= idleOption(reader)) return absolute;
  throw reader.error('absolute', 'it must not be shorter than `idle`');
}

function userLimitOption(reader: OptionReader): UserLimit | undefined {
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

function sealOption(reader: OptionReader): Seal {
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
