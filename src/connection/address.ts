import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';

export interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

/** Where one Redis server listens: a TCP port, or the path of a unix socket. */
export type ServerAddress = HostAndPort | { readonly path: string };

/** The content of a URL. Absent parts are undefined. */
export interface ParsedUrl {
  readonly endpoint: ServerAddress;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number | undefined;
  readonly family: 0 | 4 | 6 | undefined;
  readonly isTls: boolean;
}

/** Parses `redis:`, `rediss:`, `unix:` and `memory:` URLs. `source` names the option; errors contain no password. */
export function parseRedisUrl(source: string, value: unknown): ParsedUrl | 'memory' {
  if (value === 'memory:' || value === 'memory://') return 'memory';
  if (typeof value !== 'string') throw malformed(source, value === null ? 'null' : `of type ${typeof value}`);
  if (value === '') throw malformed(source, 'empty');
  if (value.startsWith('unix:')) return parseUnixUrl(source, value);
  if (!URL.canParse(value)) throw malformed(source, 'not a URL');
  const url = new URL(value);
  if (url.protocol !== 'redis:' && url.protocol !== 'rediss:') {
    // Without slashes, the text before the colon may be a user name, which must not be shown.
    const isScheme = value.startsWith('//', url.protocol.length);
    throw malformed(source, isScheme ? `with the scheme ${describe(url.protocol)}` : 'without redis://');
  }
  if (url.hostname === '') throw malformed(source, 'without a host');
  const path = /^\/?(\d{0,9})$/.exec(url.pathname)?.[1];
  if (path === undefined)
    // The path is not shown: an unescaped slash in a password puts the rest of the password there.
    throw malformed(source, 'with a path where a database number belongs');
  if (url.hash !== '') throw malformed(source, 'with a fragment');
  const { db, family } = parseQuery(source, url.search);
  if (db !== undefined && path !== '') throw malformed(source, 'with two database numbers');
  return {
    endpoint: { host: withoutBrackets(url.hostname), port: url.port === '' ? 6379 : Number(url.port) },
    username: decode(source, url.username) || undefined,
    password: decode(source, url.password) || undefined,
    db: path === '' ? db : Number(path),
    family,
    isTls: url.protocol === 'rediss:',
  };
}

/** `URL` accepts no user name without a host. */
function parseUnixUrl(source: string, value: string): ParsedUrl {
  const parts = /^unix:\/\/(?:([^:@/]*)(?::([^@/]*))?@)?(\/[^?#]+)(\?[^#]*)?$/.exec(value);
  if (parts === null) throw malformed(source, 'not a URL of a unix socket, with three slashes');
  const [, username = '', password = '', path = '', search = ''] = parts;
  return {
    endpoint: { path: decode(source, path) },
    username: decode(source, username) || undefined,
    password: decode(source, password) || undefined,
    ...parseQuery(source, search, ['db']),
    isTls: false,
  };
}

function parseQuery(
  source: string,
  search: string,
  known: readonly string[] = ['db', 'family'],
): Pick<ParsedUrl, 'db' | 'family'> {
  const query = new URLSearchParams(search);
  const [db, family] = [query.get('db'), query.get('family')];
  const isValid =
    [...query.keys()].every((name, at, names) => known.includes(name) && names.indexOf(name) === at) &&
    /^\d{0,9}$/.test(db ?? '') &&
    /^[046]?$/.test(family ?? '');
  // The query is not shown: an unescaped question mark in a password puts the rest of the password there.
  if (!isValid)
    throw malformed(source, `with a query other than ${known.map((each) => `?${each}=`).join(' and ')}`);
  return {
    db: db ? Number(db) : undefined,
    family: family ? (Number(family) as 0 | 4 | 6) : undefined,
  };
}

/** Rejects more than a host, such as a URL: Node would look it up as a name, and an error would show its password. */
export function checkHost(source: string, host: string): string {
  if (!/[\s/@]|^[^:]*:[^:]*$/.test(host)) return withoutBrackets(host);
  throw new ConfigError(
    `${source} is more than a host; it must be a name or an address alone, ` +
      `the port goes beside it, and a whole address is a URL ('redis://user:password@host:port/db')`,
  );
}

/** Node's sockets do not accept the brackets that URLs have around an IPv6 address. */
export function withoutBrackets(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}

function decode(source: string, part: string): string {
  try {
    return decodeURIComponent(part);
  } catch (cause) {
    throw new ConfigError(
      `${source} has a user name, password or path that is not percent-encoded; ` +
        'encode it with encodeURIComponent(), or set `username` and `password` as options of their own',
      { cause },
    );
  }
}

function malformed(source: string, what: string): ConfigError {
  return new ConfigError(
    `${source} is ${what}; it must be 'redis://user:password@host:port/db', the same with rediss: for TLS, ` +
      `'unix:///path/to/redis.sock?db=0', or 'memory:'`,
  );
}
