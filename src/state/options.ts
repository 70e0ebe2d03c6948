import type { IncomingMessage } from 'node:http';
import type { Duration } from '../base/duration.ts';
import { ConfigError } from '../base/errors.ts';
import { LIFETIME_NAMES, renamed } from '../base/foreign-options.ts';
import type { StateScopeName } from '../base/keys.ts';
import type { OptionReader } from '../base/option-reader.ts';
import { readSettings } from '../base/settings.ts';
import { valueSizeOption } from '../base/size-options.ts';
import { ttlOption } from '../base/timed-options.ts';
import type { Req } from '../http/middleware.ts';
import { checkNotMounted } from '../http/mount-check.ts';

/** The lifetime of a scope: how long its fields are kept after the last write; null keeps them until they are deleted. */
interface ScopeOptions {
  readonly ttl: Duration | null;
}

export interface StateOptions<Request extends IncomingMessage = Req> {
  /** State that all requests share: `req.state.app`. */
  readonly app?: ScopeOptions | undefined;
  /** State of one user: `req.state.user`, which is undefined for a request whose `id` is null. */
  readonly user?: (ScopeOptions & { readonly id: (req: Request) => string | null }) | undefined;
  /** State of one session: `req.state.session`. Default of `id`: `req.sessionID`, as `kit.session` sets it. */
  readonly session?: (ScopeOptions & { readonly id?: ((req: Request) => string) | undefined }) | undefined;
  /** `'read'`: each read restarts the lifetime too. Default `'write'`. */
  readonly touch?: 'write' | 'read' | undefined;
  /** The most bytes of the JSON of one field; from 1 to 64 MiB, default 1 MiB. */
  readonly maxBytes?: number | undefined;
  /** The most fields of one app, user or session; from 1 to 100,000, default 1,000. */
  readonly maxFields?: number | undefined;
}

type IdOf = (req: Req) => unknown;

interface ScopeSettings {
  readonly ttl: number | null;
  /** Undefined for the app, and for a session whose id is that of `req.session`. */
  readonly id: IdOf | undefined;
}

export interface StateLimits {
  readonly touch: 'write' | 'read';
  readonly maxBytes: number;
  readonly maxFields: number;
}

export interface StateSettings
  extends StateLimits,
    Readonly<Record<StateScopeName, ScopeSettings | undefined>> {}

const OPTIONS = ['app', 'user', 'session', 'touch', 'maxBytes', 'maxFields'] as const;

/** Options of other packages, for which the error names the option of the kit. */
const ELSEWHERE = renamed('ttl', ...LIFETIME_NAMES.filter((name) => name !== 'ttl'));

const ELSEWHERE_OF_ALL = {
  ttl: 'each scope has a lifetime: `app`, `user` and `session` have the option `ttl`',
  ...renamed('touch', 'disableTouch', 'rolling'),
};

const MAX_FIELDS = 100_000;

export function resolveStateOptions(options: StateOptions<never>): StateSettings {
  checkNotMounted('kit.state', options);
  const names = { known: OPTIONS, elsewhere: ELSEWHERE_OF_ALL };
  const settings = readSettings('kit.state', options, names, (reader) => ({
    app: () => scopeOption(reader, 'app'),
    user: () => scopeOption(reader, 'user'),
    session: () => scopeOption(reader, 'session'),
    touch: () => reader.oneOf('touch', ['write', 'read'], 'write'),
    maxBytes: () => valueSizeOption(reader, 'maxBytes'),
    maxFields: () => reader.integer('maxFields', { min: 1, max: MAX_FIELDS }) ?? 1_000,
  }));
  const scopes = [settings.app, settings.user, settings.session].filter((scope) => scope !== undefined);
  if (scopes.length === 0) {
    throw new ConfigError(
      "kit.state: no scope is given; give `app`, `user` or `session`, such as app: { ttl: '1d' }",
    );
  }
  if (settings.touch === 'read' && scopes.every(({ ttl }) => ttl === null)) {
    throw new ConfigError(
      "kit.state: option `touch` is 'read', but no scope has a `ttl` that a read could restart",
    );
  }
  return settings;
}

function scopeOption(reader: OptionReader, scope: StateScopeName): ScopeSettings | undefined {
  if (!reader.has(scope)) return undefined;
  const where = `${reader.where}: option \`${scope}\``;
  const known = scope === 'app' ? ['ttl'] : ['id', 'ttl'];
  return readSettings(where, reader.value(scope), { known, elsewhere: ELSEWHERE }, (own) => ({
    ttl: () => ttlOption(own),
    id: () => {
      const id = own.callback<IdOf>('id');
      if (scope === 'user' && id === undefined)
        throw own.error('id', 'it is required: a function that returns the id of the user');
      return id;
    },
  }));
}
