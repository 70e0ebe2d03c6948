import { connectPlainClient, type PlainClient } from './plain-client.ts';
import { type RedisServer, startRedis } from './redis-server.ts';
import { until } from './until.ts';

const SLOTS = 16_384;

/** A Redis Cluster for one test. */
export interface RedisCluster {
  /** The masters first, in the order of their slots, then the replicas in the order of their masters. */
  readonly nodes: readonly ClusterNode[];
  stop(): Promise<void>;
}

interface ClusterNode {
  readonly host: string;
  readonly port: number;
  readonly server: RedisServer;
}

/** Resolves when every node sees all slots served. Default: three masters without replicas. */
export async function startCluster(
  options: {
    readonly masters?: number;
    readonly replicasPerMaster?: number;
    readonly args?: readonly string[];
  } = {},
): Promise<RedisCluster> {
  const { masters = 3, replicasPerMaster = 0, args = [] } = options;
  const servers = await startServers(masters * (1 + replicasPerMaster), args);
  const stop = async () => {
    await Promise.all(servers.map((server) => server.stop()));
  };
  try {
    await joinIntoCluster(servers, masters);
  } catch (error) {
    await stop();
    throw error;
  }
  return { nodes: servers.map((server) => ({ host: server.host, port: server.port, server })), stop };
}

async function startServers(count: number, further: readonly string[]): Promise<readonly RedisServer[]> {
  const settings = {
    'cluster-enabled': 'yes',
    'cluster-config-file': 'nodes.conf',
    'cluster-node-timeout': '2000',
    // By default the first replication waits five seconds for further replicas.
    'repl-diskless-sync-delay': '0',
  };
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
  args.push(...further);
  const starts = await Promise.allSettled(Array.from({ length: count }, () => startRedis({ args })));
  const servers = starts.flatMap((start) => (start.status === 'fulfilled' ? [start.value] : []));
  const failure = starts.find((start) => start.status === 'rejected');
  if (failure === undefined) return servers;
  await Promise.all(servers.map((server) => server.stop()));
  throw failure.reason;
}

async function joinIntoCluster(servers: readonly RedisServer[], masters: number): Promise<void> {
  const nodes = await Promise.all(servers.map((server) => connectPlainClient(server.url)));
  try {
    await Promise.all(
      nodes.map((node, index) => node.sendCommand(['CLUSTER', 'SET-CONFIG-EPOCH', `${index + 1}`])),
    );
    await Promise.all(nodes.slice(0, masters).map((node, index) => takeSlots(node, index, masters)));
    await introduceAll(nodes, servers);
    await followMasters(nodes, masters);
    await until(
      'every node of the test cluster finds every slot served',
      () => areAll(nodes, isServingAllSlots),
      30_000,
    );
    await until('every replica follows its master', () => areAll(nodes.slice(masters), isInStep), 30_000);
  } finally {
    for (const node of nodes) node.destroy();
  }
}

/** Adds the slots one by one, since ADDSLOTSRANGE requires Redis 7. */
async function takeSlots(node: PlainClient, index: number, masters: number): Promise<void> {
  const first = Math.ceil((index * SLOTS) / masters);
  const end = Math.ceil(((index + 1) * SLOTS) / masters);
  const slots = Array.from({ length: end - first }, (_, offset) => String(first + offset));
  await node.sendCommand(['CLUSTER', 'ADDSLOTS', ...slots]);
}

/** Introduces each node to each other: gossip alone would take longer. */
async function introduceAll(nodes: readonly PlainClient[], servers: readonly RedisServer[]): Promise<void> {
  for (const [index, node] of nodes.entries()) {
    for (const other of servers.slice(index + 1)) {
      await node.sendCommand(['CLUSTER', 'MEET', other.host, String(other.port)]);
    }
  }
  await until('every node of the test cluster knows every other', () =>
    areAll(nodes, async (node) => {
      const known = String(await node.sendCommand(['CLUSTER', 'NODES']))
        .trim()
        .split('\n');
      return known.length === nodes.length && !known.some((line) => line.includes('handshake'));
    }),
  );
}

async function followMasters(nodes: readonly PlainClient[], masters: number): Promise<void> {
  const masterIds = await Promise.all(
    nodes.slice(0, masters).map((node) => node.sendCommand(['CLUSTER', 'MYID'])),
  );
  for (const [index, replica] of nodes.slice(masters).entries()) {
    await replica.sendCommand(['CLUSTER', 'REPLICATE', String(masterIds[index % masters])]);
  }
}

async function areAll(
  nodes: readonly PlainClient[],
  isTrue: (node: PlainClient) => Promise<boolean>,
): Promise<boolean> {
  const answers = await Promise.all(nodes.map(isTrue));
  return answers.every((answer) => answer);
}

async function isServingAllSlots(node: PlainClient): Promise<boolean> {
  const info = String(await node.sendCommand(['CLUSTER', 'INFO']));
  return info.includes('cluster_state:ok') && info.includes(`cluster_slots_ok:${SLOTS}\r`);
}

async function isInStep(replica: PlainClient): Promise<boolean> {
  return String(await replica.sendCommand(['INFO', 'replication'])).includes('master_link_status:up');
}
