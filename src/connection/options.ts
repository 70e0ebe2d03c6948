import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';
import { OptionReader } from '../base/option-reader.ts';
import { checkHost, parseRedisUrl, type RedisAddress } from './address.ts';
import { type BorrowedClient, recognizeClient } from './borrowed-client.ts';

/** A node of a cluster, from which the others are discovered. */
export type ClusterNode = string | { readonly host: string; readonly port?: number | undefined };

export interface ClusterOptions {
  /** Some of the masters, as `redis://host:port` or `{ host, port }`. List more than one, since a node can be down. */
  readonly nodes: readonly ClusterNode[];
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** TLS for all nodes: `true`, or options of `tls.connect`. */
  readonly tls?: boolean | TlsOptions | undefined;
}

/**
 * How to connect to Redis: exactly one of `url`, `host`/`port`, `client` or `cluster`. Without any of these options the
 * environment is used: `REDIS_URL`, or else `REDIS_HOST`, `REDIS_PORT`, `REDIS_USERNAME`, `REDIS_PASSWORD` and
 * `REDIS_DB`.
 */
export interface ConnectionOptions<Client = unknown> {
  /** `redis://user:password@host:port/db`, `rediss://...` for TLS, or `memory:` for the memory of this process. */
  readonly url?: string | undefined;
  /** The host name or address; default `localhost` if `port` is given. */
  readonly host?: string | undefined;
  /** The TCP port; default 6379. */
  readonly port?: number | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** The database number; default 0. A cluster has only database 0. */
  readonly db?: number | undefined;
  /** TLS with `host`: `true`, or options of `tls.connect`. With a `rediss:` URL: options of `tls.connect`. */
  readonly tls?: boolean | TlsOptions | undefined;
  /** A node-redis client or cluster that you connect and close. `kit.close()` only removes the kit's own listeners. */
  readonly client?: (Client & BorrowedClient) | undefined;
  readonly cluster?: ClusterOptions | undefined;
}

export const CONNECTION_OPTION_NAMES = [
  'url',
  'host',
  'port',
  'username',
  'password',
  'db',
  'tls',
  'client',
  'cluster',
] as const;

const CLUSTER_OPTION_NAMES = ['nodes', 'username', 'password', 'tls'];

/** Planned options, which this version rejects with an error of their own. */
const UNSUPPORTED = { sentinel: 'Redis Sentinel', instance: 'named instances' } as const;

export type ConnectionSettings =
  | { readonly kind: 'memory' }
  | ({ readonly kind: 'standalone' } & RedisAddress)
  | ({ readonly kind: 'cluster'; readonly nodes: readonly RedisAddress[] } & Pick<
      RedisAddress,
      'username' | 'password' | 'tls'
    >)
  | { readonly kind: 'borrowed'; readonly family: 'standalone' | 'cluster'; readonly client: BorrowedClient };

const HOST_GROUP = ['host', 'port'] as const;
const HOST_DETAILS = ['username', 'password', 'db'] as const;

export function resolveConnection(reader: OptionReader, env: NodeJS.ProcessEnv): ConnectionSettings {
  const hostOption = HOST_GROUP.find((name) => reader.has(name));
  const detail = HOST_DETAILS.find((name) => reader.has(name));
  if (detail !== undefined && hostOption === undefined) {
    throw new ConfigError(
      `createRedisKit: option \`${detail}\` is given without \`host\` or \`port\`; ` +
        `with \`url\` put it in the URL, with \`cluster\` put it in its options`,
    );
  }
  const ways = ['url', 'client', 'cluster'].filter((name) => reader.has(name));
  if (hostOption !== undefined) ways.push(hostOption);
  if (ways.length > 1) {
    throw new ConfigError(
      `createRedisKit: options ${ways.map((way) => `\`${way}\``).join(' and ')} both say where Redis is; set one`,
    );
  }
  const [way] = ways;
  if ((way === 'client' || way === 'cluster') && reader.has('tls') && reader.value('tls') !== false) {
    throw reader.secretError('tls', `put it in the options of \`${way}\``);
  }
  switch (way) {
    case 'url':
      return fromUrl('option `url`', reader.value('url'), reader);
    case 'client':
      return { kind: 'borrowed', ...recognizeClient(reader.value('client')) };
    case 'cluster':
      return fromCluster(reader.value('cluster'));
    case undefined:
      return fromEnvironment(env, reader);
    default:
      return fromHost(reader);
  }
}

/** Rejects planned options before they are reported as unknown. */
export function rejectUnsupported(options: object): void {
  for (const [name, what] of Object.entries(UNSUPPORTED)) {
    if ((options as Readonly<Record<string, unknown>>)[name] !== undefined) {
      throw new ConfigError(
        `createRedisKit: option \`${name}\` (${what}) is not available in this version; use \`url\`, \`host\`, \`cluster\` or \`client\``,
      );
    }
  }
}

function tlsOption(reader: OptionReader): boolean | TlsOptions {
  const tls = reader.value('tls') ?? false;
  if (typeof tls === 'boolean' || (typeof tls === 'object' && !Array.isArray(tls)))
    return tls as boolean | TlsOptions;
  throw reader.secretError('tls', 'it must be true, false or the options of tls.connect');
}

function fromUrl(source: string, value: unknown, reader: OptionReader): ConnectionSettings {
  const address = parseRedisUrl(source, value);
  const isTls = address !== 'memory' && address.tls !== false;
  const tls = reader.has('tls') ? tlsOption(reader) : isTls;
  if ((tls !== false) !== isTls) {
    throw reader.error('tls', `it contradicts ${source}: rediss: means TLS, redis: and memory: mean no TLS`);
  }
  return address === 'memory' ? { kind: 'memory' } : { kind: 'standalone', ...address, tls };
}

function fromHost(reader: OptionReader): ConnectionSettings {
  return {
    kind: 'standalone',
    host: checkHost('option `host`', reader.string('host') ?? 'localhost'),
    port: reader.integer('port', { min: 1, max: 65_535 }) ?? 6379,
    username: reader.secret('username'),
    password: reader.secret('password'),
    db: reader.integer('db', { min: 0, max: 2 ** 31 - 1 }) ?? 0,
    tls: tlsOption(reader),
  };
}

function fromCluster(value: unknown): ConnectionSettings {
  const reader = new OptionReader('createRedisKit({ cluster })', value, CLUSTER_OPTION_NAMES);
  const nodes = reader.value('nodes');
  if (!Array.isArray(nodes) || nodes.length === 0) {
    throw reader.error('nodes', `it must list at least one node, for example ['redis://10.0.0.1:6379']`);
  }
  return {
    kind: 'cluster',
    nodes: nodes.map(clusterNode),
    username: reader.secret('username'),
    password: reader.secret('password'),
    tls: tlsOption(reader),
  };
}

function clusterNode(node: unknown): RedisAddress {
  if (typeof node !== 'string') {
    const reader = new OptionReader('createRedisKit({ cluster: { nodes } })', node, ['host', 'port']);
    const host = reader.string('host');
    if (host === undefined) throw reader.error('host', 'it is required');
    const port = reader.integer('port', { min: 1, max: 65_535 }) ?? 6379;
    const checkedHost = checkHost('option `cluster.nodes`: a `host`', host);
    return { host: checkedHost, port, username: undefined, password: undefined, db: 0, tls: false };
  }
  const address = parseRedisUrl('option `cluster.nodes`', node);
  if (address === 'memory') {
    throw new ConfigError(
      `createRedisKit: option \`cluster.nodes\` holds 'memory:'; set it as \`url\` instead`,
    );
  }
  const { username, password, db, tls } = address;
  if (username !== undefined || password !== undefined || db !== 0 || tls !== false) {
    throw new ConfigError(
      'createRedisKit: a node in `cluster.nodes` must be redis://host:port; ' +
        'put `username`, `password` and `tls` beside `nodes`, for all nodes',
    );
  }
  return address;
}

function fromEnvironment(env: NodeJS.ProcessEnv, reader: OptionReader): ConnectionSettings {
  if (env.REDIS_URL) return fromUrl('REDIS_URL', env.REDIS_URL, reader);
  if (!env.REDIS_HOST) {
    throw new ConfigError(
      `createRedisKit: nothing says where Redis is; set \`url\` ('redis://localhost:6379', or 'memory:' to try ` +
        `things out), \`host\`, \`cluster\` or \`client\`, or set REDIS_URL or REDIS_HOST`,
    );
  }
  return {
    kind: 'standalone',
    host: checkHost('REDIS_HOST', env.REDIS_HOST),
    port: numberFrom(env, 'REDIS_PORT', 1, 65_535) ?? 6379,
    username: env.REDIS_USERNAME || undefined,
    password: env.REDIS_PASSWORD || undefined,
    db: numberFrom(env, 'REDIS_DB', 0, 2 ** 31 - 1) ?? 0,
    tls: tlsOption(reader),
  };
}

function numberFrom(env: NodeJS.ProcessEnv, name: string, min: number, max: number): number | undefined {
  const text = env[name];
  if (!text) return undefined;
  if (/^\d{1,10}$/.test(text) && Number(text) >= min && Number(text) <= max) return Number(text);
  throw new ConfigError(
    `createRedisKit: ${name} is ${describe(text)}; it must be a whole number from ${min} to ${max}`,
  );
}
