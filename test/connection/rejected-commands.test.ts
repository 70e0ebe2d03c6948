import { createCluster } from 'redis';
import { createCluster as createCluster5 } from 'redis5';
import { expect, it, onTestFinished } from 'vitest';
import { keySlot } from '../../src/connection/key-slot.ts';
import type { BorrowedClient, KitOptions } from '../../src/index.ts';
import { ioredisClusterForTest, STANDALONE_CLIENTS } from '../support/clients.ts';
import { describeWithServers } from '../support/context.ts';
import { kitForTest, testPrefix } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { type Proxy as ServerProxy, startProxy } from '../support/proxy.ts';
import { type RedisServer, startCluster, startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';

/** Ids that the first of two masters serves. */
const [USED = '', ...IDS] = Array.from({ length: 64 }, (_, id) => `id-${id}`)
  .filter((id) => keySlot(`{${id}}`) < 8_192)
  .slice(0, 25);

/** Together, documents of this size fill the buffers of the operating system, so that the client keeps most of them. */
const LARGE = 'x'.repeat(900_000);

const COMMAND_TIMEOUT = '300ms';

type Client = Pick<KitOptions, 'client' | 'cluster' | 'url'>;

interface NodeCluster extends BorrowedClient {
  connect(): Promise<unknown>;
  destroy(): void;
}

async function connected(client: NodeCluster): Promise<Client> {
  client.on('error', () => undefined);
  await client.connect();
  onTestFinished(() => client.destroy());
  return { client };
}

interface Route {
  readonly host: string;
  readonly port: number;
}

/** Creates a cluster client that is connected to one node through a proxy. */
type ClusterFamily = (at: Route, nodeAddressMap: Record<string, Route>) => Promise<Client>;

interface NodeClusterOptions {
  rootNodes: { socket: Route }[];
  nodeAddressMap: Record<string, Route>;
}

/** node-redis writes into the options of the root nodes, so they are copied. */
function nodeRedisCluster(create: (options: NodeClusterOptions) => unknown): ClusterFamily {
  return (at, nodeAddressMap) =>
    connected(create({ rootNodes: [{ socket: { ...at } }], nodeAddressMap }) as NodeCluster);
}

const CLUSTER_FAMILIES: Readonly<Record<string, ClusterFamily>> = {
  'its own cluster client': async (at, nodeAddressMap) => ({ cluster: { nodes: [at], nodeAddressMap } }),
  'a cluster of node-redis 6': nodeRedisCluster(createCluster),
  'a cluster of node-redis 5': nodeRedisCluster(createCluster5),
  'a cluster of ioredis 6': async (at, natMap) => ({
    client: ioredisClusterForTest('ioredis 6', [at], { natMap }),
  }),
};

function documentsOf(options: KitOptions) {
  return kitForTest(options).documents('rejected', { ttl: '1h' });
}

function routeTo({ url }: ServerProxy): Route {
  const { hostname, port } = new URL(url);
  return { host: hostname, port: Number(port) };
}

/**
 * A kit whose client waits for a proxy that does not read, has its commands rejected, and loses its socket. Returns the
 * values of the documents that another kit wrote between the rejections and the loss.
 */
async function valuesAfterStall(client: Client, proxy: ServerProxy, direct: Client): Promise<unknown[]> {
  const prefix = testPrefix();
  const stalled = documentsOf({ ...client, prefix, commandTimeout: COMMAND_TIMEOUT } as KitOptions);
  const other = documentsOf({ ...direct, prefix } as KitOptions);
  const works = () =>
    stalled.set(USED, {}).then(
      () => true,
      () => false,
    );
  await until('the kit is connected', works);
  proxy.stall();
  const old = await Promise.allSettled(IDS.map((id) => stalled.set(id, { value: 'old', LARGE })));
  expect(new Set(old.map(({ status }) => status))).toEqual(new Set(['rejected']));
  for (const id of IDS) await other.set(id, { value: 'new' });
  proxy.sever();
  proxy.mend();
  // The client sends its commands in order, so that each command that it has kept runs before this one.
  await until('the kit is connected again', works);
  const documents = await Promise.all(IDS.map((id) => other.get(id)));
  return documents.map((document) => (document as { readonly value: string }).value);
}

async function send(server: RedisServer, ...command: readonly string[]): Promise<string> {
  return withPlainClient(server.url, async (client) => String(await client.sendCommand([...command])));
}

async function startTwoMasters() {
  const cluster = await startCluster({ masters: 2 });
  onTestFinished(() => cluster.stop());
  const [first, second] = cluster.nodes;
  if (first === undefined || second === undefined) throw new Error('no two masters');
  const proxy = await startProxy(first);
  const route = routeTo(proxy);
  const map = { [`${first.host}:${first.port}`]: route };
  const direct = { cluster: { nodes: cluster.nodes.map(({ host, port }) => ({ host, port })) } };
  return { servers: [first.server, second.server] as const, proxy, route, map, direct };
}

describeWithServers('a command that the kit has rejected', () => {
  it.each(Object.entries(STANDALONE_CLIENTS))(
    'a command that was rejected before %s had written it is not sent on the next connection',
    async (_, borrow) => {
      const server = await startRedis();
      onTestFinished(() => server.stop());
      const proxy = await startProxy(server);
      const client = await borrow(routeTo(proxy));
      const values = await valuesAfterStall({ client }, proxy, { url: server.url });
      expect(values).toEqual(IDS.map(() => 'new'));
    },
  );

  it.each(Object.entries(CLUSTER_FAMILIES))(
    'a command that was rejected before %s had written it is not sent on the next connection',
    async (_, create) => {
      const { proxy, route, map, direct } = await startTwoMasters();
      const client = await create(route, map);
      expect(await valuesAfterStall(client, proxy, direct)).toEqual(IDS.map(() => 'new'));
    },
  );

  it.each(Object.entries(CLUSTER_FAMILIES))(
    'a command that was rejected before its node redirected it is not sent to another node by %s',
    async (_, create) => {
      const { servers, proxy, route, map, direct } = await startTwoMasters();
      const [from, to] = servers;
      const prefix = testPrefix();
      const client = await create(route, map);
      const kit = kitForTest({ ...client, prefix, commandTimeout: COMMAND_TIMEOUT } as KitOptions);
      const slow = kit.documents('rejected', { ttl: '1h' });
      await until('the kit is connected', () => kit.check().then(({ ok }) => ok));

      const [id = ''] = IDS;
      const target = await send(to, 'CLUSTER', 'MYID');
      for (const server of servers) {
        await send(server, 'CLUSTER', 'SETSLOT', `${keySlot(`{${id}}`)}`, 'NODE', target);
      }
      proxy.stall();
      await expect(slow.set(id, { value: 'old' })).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_TIMEOUT' });
      const other = documentsOf({ ...direct, prefix });
      await other.set(id, { value: 'new' });
      proxy.resume();
      const stats = () => send(from, 'INFO', 'errorstats');
      await until('the node redirects the command', async () => (await stats()).includes('errorstat_MOVED'));
      await until('the kit follows the slot', () =>
        slow.set(USED, {}).then(
          () => slow.get(id).then(() => true),
          () => false,
        ),
      );
      expect(await other.get(id)).toEqual({ value: 'new' });
    },
  );
});
