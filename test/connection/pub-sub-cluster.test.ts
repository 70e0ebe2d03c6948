import { createCluster } from 'redis';
import { expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import { connectPlainClient, withPlainClient } from '../support/plain-client.ts';
import {
  type ChannelRecorder,
  connectForTest,
  listenersAt,
  receivesAgain,
  recordChannel,
  type TestConnection,
} from '../support/pub-sub.ts';
import { type RedisCluster, startCluster } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';

type ClusterNode = RedisCluster['nodes'][number];

/** Long enough for a cluster to recover on a slow machine. */
const RECOVERY_MS = 20_000;

async function startForTest(options: Parameters<typeof startCluster>[0] = {}): Promise<RedisCluster> {
  const cluster = await startCluster(options);
  onTestFinished(() => cluster.stop());
  return cluster;
}

function ignore(): void {
  // Without a listener of its owner, a lost socket would end the process.
}

async function lendTo(nodes: readonly ClusterNode[], minimizeConnections: boolean): Promise<TestConnection> {
  const client = createCluster({
    rootNodes: nodes.map(({ server }) => ({ url: server.url })),
    minimizeConnections,
  });
  client.on('error', ignore);
  await client.connect();
  onTestFinished(() => client.destroy());
  return connectForTest({ client });
}

/** The node that the subscriber is connected to. */
async function listenedOn(nodes: readonly ClusterNode[]): Promise<ClusterNode> {
  const found: ClusterNode[] = [];
  await until('exactly one node is listened on', async () => {
    const counts = await Promise.all(nodes.map(({ server }) => listenersAt(server.url)));
    found.splice(0, found.length, ...nodes.filter((_, index) => counts[index]?.length));
    return found.length === 1;
  });
  const [node] = found;
  if (node === undefined) throw new Error('no node is listened on');
  return node;
}

/** Publishes on each of the nodes. */
async function expectToHearFromAll(recorder: ChannelRecorder, nodes: readonly ClusterNode[]): Promise<void> {
  for (const { server } of nodes) {
    await withPlainClient(server.url, (client) => receivesAgain(recorder, client, 'a'));
  }
}

/** Publishes until the message arrives: after a change, a cluster does not forward messages for a while. */
async function hearsFromAllAtLast(recorder: ChannelRecorder, nodes: readonly ClusterNode[]): Promise<void> {
  for (const { server, port } of nodes) {
    const client = await connectPlainClient(server.url);
    const message = `from ${port} at last ${recorder.messages.length}`;
    await until(
      'it hears again',
      async () => {
        await client.publish('a', message);
        return recorder.messages.includes(message);
      },
      RECOVERY_MS,
    );
    client.destroy();
  }
}

describeWithServers('Pub/Sub on a cluster', () => {
  it.each<[string, (nodes: readonly ClusterNode[]) => TestConnection | Promise<TestConnection>]>([
    [
      "the kit's own cluster client",
      (nodes) => connectForTest({ cluster: { nodes: nodes.map(({ host, port }) => ({ host, port })) } }),
    ],
    ['a borrowed cluster client', (nodes) => lendTo(nodes, false)],
    ['a borrowed cluster client that connects its nodes late', (nodes) => lendTo(nodes, true)],
  ])(
    'Pub/Sub with %s receives messages from every master, and reconnects when its master is killed',
    async (_, connectTo) => {
      const { nodes } = await startForTest();
      const { connection, pubSub } = await connectTo(nodes);
      const recorder = recordChannel(pubSub, 'a');
      await expectToHearFromAll(recorder, nodes);
      const killed = await listenedOn(nodes);
      await killed.server.kill();
      await until('it is down', () => recorder.changes.includes(false));
      const others = nodes.filter((node) => node !== killed);
      await hearsFromAllAtLast(recorder, others);
      expect(others).toContain(await listenedOn(others));
      expect(recorder.changes).toEqual([true, false, true]);
      await connection.close(1_000);
      for (const { server } of others) {
        await until(
          'the channel has no subscriber',
          async () => (await listenersAt(server.url)).length === 0,
        );
      }
    },
  );

  it('a subscriber connection moves from a frozen cluster node to another', async () => {
    const { nodes } = await startForTest();
    const cluster = { nodes: nodes.map(({ host, port }) => ({ host, port })) };
    const { pubSub } = connectForTest({ cluster });
    const recorder = recordChannel(pubSub, 'a');
    await until('it is up', () => recorder.isUp);
    const frozen = await listenedOn(nodes);
    frozen.server.freeze();
    await until('it is down', () => recorder.changes.includes(false));
    const elapsedMs = stopwatch();
    await until('it is up', () => recorder.isUp);
    expect(elapsedMs(), 'to try the frozen one again takes five seconds').toBeLessThan(4_000);
    await hearsFromAllAtLast(
      recorder,
      nodes.filter((node) => node !== frozen),
    );
    frozen.server.thaw();
  });

  it('a subscriber connection leaves a cluster node that is no longer a master', async () => {
    const { nodes } = await startForTest({ masters: 3, replicasPerMaster: 1 });
    const [masters, replicas] = [nodes.slice(0, 3), nodes.slice(3)];
    const cluster = { nodes: masters.map(({ host, port }) => ({ host, port })) };
    const { connection, pubSub } = connectForTest({ cluster });
    const recorder = recordChannel(pubSub, 'a');
    await until('it is up', () => recorder.isUp);
    const left = await listenedOn(nodes);
    const successor = replicas[masters.indexOf(left)];
    if (successor === undefined) throw new Error('the master has no replica');
    await withPlainClient(successor.server.url, (client) =>
      client.sendCommand(['CLUSTER', 'FAILOVER', 'TAKEOVER']),
    );
    await until(
      'another is listened on',
      async () => {
        // The client learns of the change from error replies of the former master.
        const keys = Array.from({ length: 30 }, (_, id) => `t-${id}`);
        await Promise.allSettled(keys.map((key) => connection.send(key, ['GET', key], 1_000)));
        return recorder.changes.length >= 3 && (await listenedOn(nodes)) !== left;
      },
      RECOVERY_MS,
    );
    await hearsFromAllAtLast(recorder, nodes);
    expect(recorder.changes).toEqual([true, false, true]);
  });
});
