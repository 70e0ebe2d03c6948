import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';

export interface RedisAddress {
  readonly host: string;
  readonly port: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number;
  readonly tls: boolean | TlsOptions;
}

/** Parses `redis:`, `rediss:` and `memory:` URLs. `source` names the option; errors never contain a password. */
export function parseRedisUrl(source: string, value: unknown): RedisAddress | 'memory' {
  if (value === 'memory:' || value === 'memory://') return 'memory';
  if (typeof value !== 'string') throw malformed(source, value === null ? 'null' : `of type ${typeof value}`);
  if (value === '') throw malformed(source, 'empty');
  if (!URL.canParse(value)) throw malformed(source, 'not a URL');
  const url = new URL(value);
  if (url.protocol !== 'redis:' && url.protocol !== 'rediss:') {
    // Without slashes, the text before the colon may be a user name, which must not be shown.
    const isScheme = value.startsWith('//', url.protocol.length);
    throw malformed(source, isScheme ? `with the scheme ${describe(url.protocol)}` : 'without redis://');
  }
  if (url.hostname === '') throw malformed(source, 'without a host');
  const db = /^\/?(\d{0,9})$/.exec(url.pathname)?.[1];
  if (db === undefined)
    // The path is not shown: an unescaped slash in a password puts the rest of the password there.
    throw malformed(source, 'with a path where a database number belongs');
  if (url.search !== '' || url.hash !== '') throw malformed(source, 'with a query or fragment');
  return {
    // A URL has brackets around an IPv6 address, which Node's sockets do not accept.
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? 6379 : Number(url.port),
    username: decode(source, url.username) || undefined,
    password: decode(source, url.password) || undefined,
    db: Number(db),
    tls: url.protocol === 'rediss:',
  };
}

/** Rejects more than a host, such as a URL: Node would look it up as a name, and an error would show its password. */
export function checkHost(source: string, host: string): string {
  if (!/[\s/@]|^[^:]*:[^:]*$/.test(host)) return host;
  throw new ConfigError(
    `createRedisKit: ${source} is more than a host; it must be a name or an address alone, ` +
      `the port goes beside it, and a whole address is a URL ('redis://user:password@host:port/db')`,
  );
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
