import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { ConfigError } from '../base/errors.ts';
import { renamed } from '../base/foreign-options.ts';
import type { OptionReader } from '../base/option-reader.ts';
import { ACCESS_OPTION_NAMES, type Access, type Password, readAccess } from './access.ts';
import { checkHost, parseRedisUrl, type ServerAddress } from './address.ts';
import { type BorrowedClient, type ClientFamily, recognizeClient } from './borrowed-client.ts';
import { type ClusterOptions, type ClusterSettings, readCluster } from './cluster-options.ts';
import { readEnvironment } from './environment.ts';
import { readSentinel, type SentinelOptions, type SentinelSettings } from './sentinel-options.ts';

/**
 * The type of a client, and BorrowedClient for any other type. Only the names of the methods are compared: to compare
 * the types of a cluster client of node-redis with another type takes TypeScript 20 seconds.
 */
type ClientOption<Client> = 'sendCommand' | 'on' | 'off' extends keyof Client ? Client : BorrowedClient;

/**
 * How to connect to Redis: exactly one of `url`, `host`/`port`, `path`, `client`, `cluster`, `sentinel` or `instance`. Without
 * any of these options the environment is used: `REDIS_URL`, or else `REDIS_HOST`, `REDIS_PORT`, `REDIS_USERNAME`,
 * `REDIS_PASSWORD` and `REDIS_DB`.
 */
export interface ConnectionOptions<Client = unknown> {
  /**
   * `redis://user:password@host:port/db`, the same with `rediss:` for TLS, `unix:///path/to/redis.sock?db=0`, or
   * `memory:` for the memory of this process.
   */
  readonly url?: string | undefined;
  /** The host name or address; default `localhost` if `port` is given. */
  readonly host?: string | undefined;
  /** The TCP port; default 6379. */
  readonly port?: number | undefined;
  /** The path of a unix socket. */
  readonly path?: string | undefined;
  /** The ACL user; default: the user `default`. */
  readonly username?: string | undefined;
  /**
   * The password, or a function that returns it or a promise of it. The function is called for each new socket, so it may
   * return a token that expires. If it throws, or takes longer than 4 seconds, the kit tries again later.
   */
  readonly password?: Password | undefined;
  /** The database number; default 0. A cluster has only database 0. */
  readonly db?: number | undefined;
  /**
   * TLS with `host`: `true`, or options of `tls.connect`. With a `rediss:` URL: options of `tls.connect`. `servername` is
   * the host by default.
   */
  readonly tls?: boolean | TlsOptions | undefined;
  /** The IP version of addresses: 4, 6, or 0 for both; default 0. */
  readonly family?: 0 | 4 | 6 | undefined;
  /**
   * The name of the connections in CLIENT LIST, in visible ASCII characters; default: `prefix`, or the name of the
   * instance.
   */
  readonly clientName?: string | undefined;
  /**
   * A client of node-redis, ioredis or iovalkey that you connect and close. `kit.close()` only removes the kit's own
   * listeners. See docs/clients.md.
   */
  readonly client?: ClientOption<Client> | undefined;
  readonly cluster?: ClusterOptions | undefined;
  /** The sentinels that name the master. The kit follows the master, also after a failover. */
  readonly sentinel?: SentinelOptions | undefined;
  /** The name of a connection that `registerRedis()` has registered, and that all kits with this name share. */
  readonly instance?: string | undefined;
}

export const CONNECTION_OPTION_NAMES: readonly string[] = [
  'url',
  'host',
  'port',
  'path',
  'db',
  ...ACCESS_OPTION_NAMES,
  'client',
  'cluster',
  'sentinel',
  'instance',
];

/** Hints for option names of Redis clients. */
export const FOREIGN_CONNECTION_NAMES: Readonly<Record<string, string>> = {
  ...renamed('url', 'uri', 'connectionString', 'redisUrl'),
  ...renamed('client', 'redis', 'redisClient', 'storeClient', 'store'),
  ...renamed('db', 'database'),
  ...renamed('host', 'hostname'),
  ...renamed('username', 'user'),
  ...renamed('clientName', 'connectionName', 'name'),
  socket: 'use `host`, `port`, `path` and `tls`',
  sendCommand: 'pass the client itself, as `client`',
  rootNodes: 'use `nodes` in `cluster`',
  nodeAddressMap: 'put it in the options of `cluster`',
  natMap: 'it is `nodeAddressMap` in the options of `cluster`',
  credentialsProvider: 'pass a function as `password`',
  servername: 'put it in `tls`',
};

export type ConnectionSettings =
  | { readonly kind: 'memory' }
  | StandaloneSettings
  | ClusterSettings
  | SentinelSettings
  | { readonly kind: 'borrowed'; readonly family: ClientFamily; readonly client: BorrowedClient }
  | { readonly kind: 'instance'; readonly name: string };

export type StandaloneSettings = { readonly kind: 'standalone'; readonly db: number } & Access &
  ServerAddress;

type Way = 'url' | 'host' | 'path' | 'client' | 'cluster' | 'sentinel' | 'instance' | 'environment';

const DETAILS = ['db', ...ACCESS_OPTION_NAMES] as const;

/** The details that go with each way to say where Redis is; `elsewhere` says where the others belong. */
const DETAILS_OF: Readonly<Record<Way, { readonly known: readonly string[]; readonly elsewhere: string }>> = {
  url: { known: DETAILS, elsewhere: '' },
  host: { known: DETAILS, elsewhere: '' },
  environment: { known: DETAILS, elsewhere: '' },
  path: {
    known: ['db', 'username', 'password', 'clientName'],
    elsewhere: 'a unix socket has neither TLS nor an IP version',
  },
  client: { known: [], elsewhere: 'put it in the options of `client` itself' },
  cluster: { known: ['clientName'], elsewhere: 'put it in the options of `cluster`' },
  sentinel: { known: ['clientName'], elsewhere: 'put it in the options of `sentinel`' },
  instance: { known: [], elsewhere: 'put it in registerRedis()' },
};

/** `defaultName`: the name in CLIENT LIST, unless the options have another. */
export function resolveConnection(
  reader: OptionReader,
  env: NodeJS.ProcessEnv,
  defaultName: string,
): ConnectionSettings {
  const way = wayOf(reader);
  checkDetails(reader, way);
  switch (way) {
    case 'url':
      return fromUrl(`${reader.where}: option \`url\``, reader.value('url'), reader, defaultName);
    case 'client':
      return { kind: 'borrowed', ...recognizeClient(reader.value('client')) };
    case 'cluster': {
      const { clientName } = readAccess(reader, defaultName);
      return readCluster(reader.where, reader.value('cluster'), clientName);
    }
    case 'sentinel': {
      const { clientName } = readAccess(reader, defaultName);
      return readSentinel(reader.where, reader.value('sentinel'), clientName);
    }
    case 'instance':
      return { kind: 'instance', name: reader.string('instance') ?? '' };
    case 'environment':
      return fromEnvironment(reader, env, defaultName);
    default:
      return { kind: 'standalone', ...endpointOption(reader), ...detailOptions(reader, defaultName) };
  }
}

function wayOf(reader: OptionReader): Way {
  const ways: { readonly way: Way; readonly option: string }[] = (
    ['url', 'path', 'client', 'cluster', 'sentinel', 'instance'] as const
  )
    .filter((name) => reader.has(name))
    .map((way) => ({ way, option: way }));
  const hostOption = ['host', 'port'].find((name) => reader.has(name));
  if (hostOption !== undefined) ways.push({ way: 'host', option: hostOption });
  if (ways.length > 1) {
    const options = ways.map(({ option }) => `\`${option}\``).join(' and ');
    throw new ConfigError(`${reader.where}: options ${options} both say where Redis is; set one`);
  }
  return ways[0]?.way ?? 'environment';
}

function checkDetails(reader: OptionReader, way: Way): void {
  const { known, elsewhere } = DETAILS_OF[way];
  const misplaced = DETAILS.find((name) => isGiven(reader, name) && !known.includes(name));
  if (misplaced !== undefined) throw reader.secretError(misplaced, elsewhere);
}

/** `tls: false` is the default, so it is allowed with every address. */
function isGiven(reader: OptionReader, name: string): boolean {
  return reader.has(name) && reader.value(name) !== false;
}

function endpointOption(reader: OptionReader): ServerAddress {
  const path = reader.string('path');
  if (path !== undefined) return { path };
  return {
    host: checkHost(`${reader.where}: option \`host\``, reader.string('host') ?? 'localhost'),
    port: reader.integer('port', { min: 1, max: 65_535 }) ?? 6379,
  };
}

function detailOptions(reader: OptionReader, defaultName: string): Access & { readonly db: number } {
  return {
    db: reader.integer('db', { min: 0, max: 2 ** 31 - 1 }) ?? 0,
    ...readAccess(reader, defaultName),
  };
}

/** `source` names the option or variable that has the URL. Other options set only what the URL does not contain. */
function fromUrl(
  source: string,
  value: unknown,
  reader: OptionReader,
  defaultName: string,
): ConnectionSettings {
  const parsed = parseRedisUrl(source, value);
  const options = detailOptions(reader, defaultName);
  if (parsed === 'memory') {
    const misplaced = DETAILS.find((name) => isGiven(reader, name) && name !== 'clientName');
    if (misplaced === undefined) return { kind: 'memory' };
    throw reader.secretError(misplaced, `${source} is 'memory:', which has no such option`);
  }
  const { endpoint, isTls, ...given } = parsed;
  if ('path' in endpoint) checkDetails(reader, 'path');
  else if (reader.has('tls') && (options.tls !== false) !== isTls) {
    throw reader.error('tls', `it contradicts ${source}: rediss: means TLS, and redis: means no TLS`);
  }
  for (const name of ['username', 'password', 'db', 'family'] as const) {
    if (given[name] === undefined || !reader.has(name)) continue;
    throw reader.secretError(name, `${source} has one as well; set one of the two`);
  }
  return {
    kind: 'standalone',
    ...endpoint,
    ...options,
    username: given.username ?? options.username,
    password: given.password ?? options.password,
    db: given.db ?? options.db,
    family: given.family ?? options.family,
    tls: isTls && options.tls === false ? true : options.tls,
  };
}

function fromEnvironment(
  reader: OptionReader,
  env: NodeJS.ProcessEnv,
  defaultName: string,
): ConnectionSettings {
  if (env.REDIS_URL) return fromUrl(`${reader.where}: REDIS_URL`, env.REDIS_URL, reader, defaultName);
  const found = readEnvironment(reader.where, env);
  const options = detailOptions(reader, defaultName);
  return {
    kind: 'standalone',
    ...options,
    ...found.endpoint,
    username: options.username ?? found.username,
    password: options.password ?? found.password,
    db: reader.has('db') ? options.db : (found.db ?? 0),
  };
}
