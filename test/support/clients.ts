import { Cluster as Cluster6, type RedisOptions as Options6, Redis as Redis6 } from 'ioredis';
import { Cluster as Cluster5, type RedisOptions as Options5, Redis as Redis5 } from 'ioredis5';
import { Redis as Valkey, Cluster as ValkeyCluster, type RedisOptions as ValkeyOptions } from 'iovalkey';
import * as redis6 from 'redis';
import * as redis5 from 'redis5';
import { onTestFinished } from 'vitest';
import type { BorrowedClient } from '../../src/index.ts';

interface Address {
  readonly host: string;
  readonly port: number;
}

/** Options that all versions of ioredis and iovalkey have. */
export type IoredisOptions = Pick<
  Options6,
  | 'autoResendUnfulfilledCommands'
  | 'commandTimeout'
  | 'db'
  | 'enableAutoPipelining'
  | 'enableOfflineQueue'
  | 'keyPrefix'
  | 'lazyConnect'
  | 'maxRetriesPerRequest'
  | 'name'
  | 'password'
  | 'readOnly'
  | 'reconnectOnError'
  | 'retryStrategy'
  | 'role'
  | 'sentinels'
  | 'stringNumbers'
  | 'username'
>;

/** The methods of clients of ioredis and iovalkey that tests use. */
export interface IoredisForTest extends BorrowedClient {
  readonly status: string;
  connect(): Promise<unknown>;
  disconnect(reconnect?: boolean): void;
  get(key: string): Promise<string | null>;
  incr(key: string): Promise<number>;
  multi(): unknown;
  pipeline(): unknown;
  subscribe(channel: string): Promise<unknown>;
}

interface IoredisFamily {
  create(address: Address, options?: IoredisOptions): IoredisForTest;
  createCluster(nodes: readonly Address[], options?: object): IoredisForTest;
}

/** The versions of ioredis and iovalkey; the first one is tested in full. */
const IOREDIS_FAMILIES = {
  'ioredis 6': {
    create: ({ host, port }, options = {}) => new Redis6({ host, port, retryStrategy: () => 50, ...options }),
    createCluster: (nodes, options = {}) => new Cluster6([...nodes], options),
  },
  'ioredis 5': {
    create: ({ host, port }, options = {}) =>
      new Redis5({ host, port, retryStrategy: () => 50, ...options } as Options5),
    createCluster: (nodes, options = {}) => new Cluster5([...nodes], options),
  },
  iovalkey: {
    create: ({ host, port }, options = {}) =>
      new Valkey({ host, port, retryStrategy: () => 50, ...options } as ValkeyOptions),
    createCluster: (nodes, options = {}) => new ValkeyCluster([...nodes], options),
  },
} satisfies Readonly<Record<string, IoredisFamily>>;

export type IoredisName = keyof typeof IOREDIS_FAMILIES;

export const IOREDIS_NAMES = Object.keys(IOREDIS_FAMILIES) as readonly IoredisName[];

/** Creates a client that is disconnected with the test. Its errors are ignored, as an app with a logger would. */
export function ioredisForTest(
  name: IoredisName,
  address: Address,
  options?: IoredisOptions,
): IoredisForTest {
  return untilTestEnds(IOREDIS_FAMILIES[name].create(address, options));
}

export function ioredisClusterForTest(
  name: IoredisName,
  nodes: readonly Address[],
  options?: object,
): IoredisForTest {
  return untilTestEnds(IOREDIS_FAMILIES[name].createCluster(nodes, options));
}

function untilTestEnds(client: IoredisForTest): IoredisForTest {
  client.on('error', ignore);
  onTestFinished(() => client.disconnect());
  return client;
}

function ignore(): void {
  // Without a listener, ioredis prints errors and node-redis ends the process.
}

interface NodeRedisForTest extends BorrowedClient {
  connect(): Promise<unknown>;
  destroy(): void;
}

async function nodeRedisForTest(client: NodeRedisForTest): Promise<BorrowedClient> {
  client.on('error', ignore);
  await client.connect();
  onTestFinished(() => client.destroy());
  return client;
}

/** Every kind of client that may be borrowed, on one server. */
export const STANDALONE_CLIENTS: Readonly<Record<string, (address: Address) => Promise<BorrowedClient>>> = {
  'a client of node-redis 6': (at) => nodeRedisForTest(redis6.createClient({ url: urlOf(at) })),
  'a client of node-redis 5': (at) => nodeRedisForTest(redis5.createClient({ url: urlOf(at) })),
  'a pool of node-redis 6': (at) => nodeRedisForTest(redis6.createClientPool({ url: urlOf(at) })),
  'a pool of node-redis 5': (at) => nodeRedisForTest(redis5.createClientPool({ url: urlOf(at) })),
  'a client of ioredis 6': async (at) => ioredisForTest('ioredis 6', at),
  'a client of ioredis 5': async (at) => ioredisForTest('ioredis 5', at),
  'a client of iovalkey': async (at) => ioredisForTest('iovalkey', at),
};

/** Every kind of client that may be borrowed, on a Cluster. */
export const CLUSTER_CLIENTS: Readonly<
  Record<string, (nodes: readonly Address[]) => Promise<BorrowedClient>>
> = {
  'a cluster of node-redis 6': (nodes) => nodeRedisForTest(redis6.createCluster(rootNodes(nodes))),
  'a cluster of node-redis 5': (nodes) => nodeRedisForTest(redis5.createCluster(rootNodes(nodes))),
  'a cluster of ioredis 6': async (nodes) => ioredisClusterForTest('ioredis 6', nodes),
  'a cluster of ioredis 5': async (nodes) => ioredisClusterForTest('ioredis 5', nodes),
  'a cluster of iovalkey': async (nodes) => ioredisClusterForTest('iovalkey', nodes),
};

interface SentinelGroup {
  readonly name: string;
  readonly sentinels: readonly Address[];
}

/** Every kind of client that may be borrowed, on a master with sentinels. */
export const SENTINEL_CLIENTS: Readonly<Record<string, (group: SentinelGroup) => Promise<BorrowedClient>>> = {
  'a Sentinel client of node-redis 6': ({ name, sentinels }) =>
    nodeRedisForTest(redis6.createSentinel({ name, sentinelRootNodes: addressesOf(sentinels) })),
  'a Sentinel client of node-redis 5': ({ name, sentinels }) =>
    nodeRedisForTest(redis5.createSentinel({ name, sentinelRootNodes: addressesOf(sentinels) })),
  ...Object.fromEntries(
    IOREDIS_NAMES.map((family) => [
      `a Sentinel client of ${family}`,
      async ({ name, sentinels }: SentinelGroup) =>
        ioredisForTest(family, { host: 'unused', port: 1 }, { name, sentinels: addressesOf(sentinels) }),
    ]),
  ),
};

function addressesOf(servers: readonly Address[]) {
  return servers.map(({ host, port }) => ({ host, port }));
}

function urlOf({ host, port }: Address): string {
  return `redis://${host}:${port}`;
}

function rootNodes(nodes: readonly Address[]) {
  return { rootNodes: nodes.map((node) => ({ url: urlOf(node) })) };
}
