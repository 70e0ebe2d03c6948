import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { describe } from '../base/check.ts';
import { ConfigError } from '../base/errors.ts';

export interface RedisAddress {
  readonly host: string;
  readonly port: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number;
  readonly tls: boolean | TlsOptions;
}

/** Reads `redis:`, `rediss:` and `memory:`. The errors never show a password. `source` says where it was given. */
export function parseRedisUrl(source: string, value: unknown): RedisAddress | 'memory' {
  if (value === 'memory:' || value === 'memory://') return 'memory';
  const url = typeof value === 'string' && URL.canParse(value) ? new URL(value) : undefined;
  if (url === undefined) throw malformed(source, typeof value === 'string' ? 'not a URL' : describe(value));
  if (url.protocol !== 'redis:' && url.protocol !== 'rediss:') {
    throw malformed(source, `of the scheme ${describe(url.protocol)}`);
  }
  if (url.hostname === '') throw malformed(source, 'without a host');
  const db = /^\/?(\d{0,9})$/.exec(url.pathname)?.[1];
  if (db === undefined)
    // An unescaped slash in a password ends up here, so the path is not shown.
    throw malformed(source, 'with a path where a database number belongs');
  if (url.search !== '' || url.hash !== '') throw malformed(source, 'with a query or fragment');
  return {
    // Node's sockets take an IPv6 address bare, a URL has it in brackets.
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? 6379 : Number(url.port),
    username: decode(source, url.username) || undefined,
    password: decode(source, url.password) || undefined,
    db: Number(db),
    tls: url.protocol === 'rediss:',
  };
}

function decode(source: string, part: string): string {
  try {
    return decodeURIComponent(part);
  } catch (cause) {
    throw new ConfigError(
      `createRedisKit: ${source} has a user name or password that is not percent-encoded`,
      { cause },
    );
  }
}

function malformed(source: string, what: string): ConfigError {
  return new ConfigError(
    `createRedisKit: ${source} is ${what}; it must be 'redis://user:password@host:port/db', the same with rediss: for TLS, or 'memory:'`,
  );
}
