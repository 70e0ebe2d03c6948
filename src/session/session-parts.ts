import { randomBytes } from 'node:crypto';
import expressSession from 'express-session';
import { ConfigError } from '../base/errors.ts';
import { isIdentity, kindOf } from '../base/identity.ts';
import type { RequestDeadlines } from '../engine/deadline.ts';
import type { Req } from '../http/middleware.ts';
import { isSecure } from './cookie-options.ts';
import type { SessionSettings } from './options.ts';
import type { SessionParts } from './request-session.ts';
import { RequestStore } from './request-store.ts';
import { secretsOf } from './secret.ts';
import { makeSession } from './session-methods.ts';
import { SessionRecords } from './session-records.ts';
import { SignedCookies } from './signed-cookie.ts';
import type { SessionDeps } from './user-index.ts';

const ID_BYTES = 24;

/** Random bytes are generated for this many ids at a time, since each call of `randomBytes` costs more than an id. */
const POOLED_IDS = 128;

let pool = Buffer.alloc(0);
let used = 0;

interface KitParts extends SessionDeps {
  readonly deadlines: RequestDeadlines;
  readonly isMemory: boolean;
}

/** Creates the parts that the requests of one session middleware share. */
export function sessionParts(settings: SessionSettings, kit: KitParts): SessionParts {
  const secrets = secretsOf(settings.secret, kit);
  return {
    settings,
    records: new SessionRecords(kit, settings),
    cookies: new SignedCookies({ name: settings.name, secrets, keys: kit.keys }),
    deadlines: kit.deadlines,
    newId: (req) => newId(req, settings),
    newCookie: (req) => newCookie(req, settings),
    makeSession,
    makeStore: (request) => new RequestStore(request),
  };
}

function newId(req: Req, { genid }: SessionSettings): string {
  if (genid === undefined) return generateId();
  const id: unknown = genid(req);
  if (isIdentity(id)) return id;
  throw new ConfigError(
    `kit.session: option \`genid\` returned ${kindOf(id)}; it must return a string that is not empty`,
  );
}

function generateId(): string {
  if (used === pool.length) {
    pool = randomBytes(POOLED_IDS * ID_BYTES);
    used = 0;
  }
  const start = used;
  used += ID_BYTES;
  return pool.toString('base64url', start, used);
}

function newCookie(req: Req, { cookie, proxy }: SessionSettings): expressSession.Cookie {
  const options = typeof cookie === 'function' ? cookie(req) : cookie;
  const created: expressSession.Cookie = Reflect.construct(expressSession.Cookie, [options]);
  if (options.secure !== 'auto' && options.sameSite !== 'auto') return created;
  const isOverTls = isSecure(req, proxy);
  if (options.secure === 'auto') created.secure = isOverTls;
  if (options.sameSite === 'auto') created.sameSite = isOverTls ? 'none' : 'lax';
  return created;
}
