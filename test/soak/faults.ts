import { setTimeout as pause } from 'node:timers/promises';
import { keySlot } from '../../src/connection/key-slot.ts';
import { type PlainClient, withPlainClient } from '../support/plain-client.ts';
import { type RedisCluster, startCluster } from '../support/servers.ts';
import { until } from '../support/until.ts';
import type { Random } from './random.ts';

type Node = RedisCluster['nodes'][number];

/**
 * A Cluster that keeps every write that it has acknowledged, so that a lost one is a fault of the kit: each node writes it
 * to disk before it replies, and a replica takes over only when it is asked to, which loses nothing.
 */
export function startDurableCluster(): Promise<RedisCluster> {
  const settings = { appendonly: 'yes', appendfsync: 'always', 'cluster-replica-no-failover': 'yes' };
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
  return startCluster({ replicasPerMaster: 1, args });
}

export interface Fault {
  readonly name: string;
  inject(): Promise<unknown>;
}

/** The faults, each of which ends by itself. `hotKey` is a key that the load uses. */
export function faultsOn(cluster: RedisCluster, random: Random, hotKey: string): readonly Fault[] {
  const nodes = cluster.nodes;
  const anyNode = () => nodes[random(nodes.length)] as Node;
  const send = (...command: string[]) =>
    withPlainClient(anyNode().server.url, (client) => client.sendCommand(command));
  return [
    {
      name: 'freeze',
      async inject() {
        const { server } = anyNode();
        server.freeze();
        await pause(200 + random(900));
        server.thaw();
      },
    },
    {
      name: 'kill and restart',
      async inject() {
        const { server } = anyNode();
        await server.kill();
        await pause(random(500));
        await server.restart();
      },
    },
    { name: 'cut the connections', inject: () => send('CLIENT', 'KILL', 'TYPE', 'normal') },
    { name: 'cut the subscribers', inject: () => send('CLIENT', 'KILL', 'TYPE', 'pubsub') },
    { name: 'pause commands', inject: () => send('CLIENT', 'PAUSE', String(100 + random(500)), 'ALL') },
    { name: 'pause writes', inject: () => send('CLIENT', 'PAUSE', String(100 + random(500)), 'WRITE') },
    { name: 'forget the scripts', inject: () => send('SCRIPT', 'FLUSH') },
    { name: 'fail over', inject: () => failOver(nodes, random) },
    { name: 'move a slot', inject: () => moveSlot(nodes, keySlot(hotKey), random) },
  ];
}

/** Waits until every node finds every slot served. */
export async function whenHealed({ nodes }: RedisCluster): Promise<void> {
  for (const { server } of nodes) {
    await until('every node of the cluster finds every slot served', () =>
      withPlainClient(server.url, async (client) =>
        String(await client.sendCommand(['CLUSTER', 'INFO'])).includes('cluster_state:ok'),
      ).catch(() => false),
    );
  }
}

export async function mastersOf({ nodes }: Pick<RedisCluster, 'nodes'>): Promise<readonly Node[]> {
  const roles = await Promise.all(nodes.map(({ server }) => roleOf(server.url)));
  return nodes.filter((_node, index) => roles[index] === 'master');
}

async function roleOf(url: string): Promise<string> {
  return withPlainClient(url, async (client) => {
    const [role] = (await client.sendCommand(['ROLE'])) as string[];
    return String(role);
  });
}

async function failOver(nodes: readonly Node[], random: Random): Promise<void> {
  const roles = await Promise.all(nodes.map(({ server }) => roleOf(server.url)));
  const replicas = nodes.filter((_node, index) => roles[index] === 'slave');
  const { url } = (replicas[random(replicas.length)] as Node).server;
  await withPlainClient(url, (client) => client.sendCommand(['CLUSTER', 'FAILOVER']));
  await until('the replica is the master', async () => (await roleOf(url)) === 'master', 5_000).catch(
    () => undefined,
  );
}

/** Moves a slot with its keys to another master, while clients use it. */
async function moveSlot(nodes: readonly Node[], slot: number, random: Random): Promise<void> {
  const masters = await mastersOf({ nodes });
  const clients = await Promise.all(
    masters.map(async (node) => ({ node, urls: node.server.url, id: await idOf(node) })),
  );
  const ownerId = await ownerOf(masters[0] as Node, slot);
  const source = clients.find(({ id }) => id === ownerId);
  const others = clients.filter(({ id }) => id !== ownerId);
  const target = others[random(others.length)];
  if (source === undefined || target === undefined) return;
  const ask = (url: string, ...command: string[]) =>
    withPlainClient(url, (client: PlainClient) => client.sendCommand(command));
  const name = String(slot);
  await ask(target.urls, 'CLUSTER', 'SETSLOT', name, 'IMPORTING', source.id);
  await ask(source.urls, 'CLUSTER', 'SETSLOT', name, 'MIGRATING', target.id);
  await pause(random(100));
  const { host, port } = target.node;
  for (;;) {
    const keys = (await ask(source.urls, 'CLUSTER', 'GETKEYSINSLOT', name, '10')) as unknown as string[];
    if (keys.length === 0) break;
    await ask(source.urls, 'MIGRATE', host, String(port), '', '0', '5000', 'KEYS', ...keys);
    await pause(random(20));
  }
  for (const { urls } of [target, source, ...others]) {
    await ask(urls, 'CLUSTER', 'SETSLOT', name, 'NODE', target.id);
  }
}

async function idOf({ server }: Node): Promise<string> {
  return withPlainClient(server.url, async (client) => String(await client.sendCommand(['CLUSTER', 'MYID'])));
}

async function ownerOf({ server }: Node, slot: number): Promise<string> {
  return withPlainClient(server.url, async (client) => {
    const ranges = (await client.sendCommand(['CLUSTER', 'SLOTS'])) as unknown as [
      number,
      number,
      unknown[],
    ][];
    const range = ranges.find(([first, last]) => first <= slot && slot <= last);
    return String(range?.[2]?.[2]);
  });
}
