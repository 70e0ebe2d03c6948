import { expect, it, onTestFinished } from 'vitest';
import type { KitOptions } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { freePort, type RedisCluster, startCluster } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';
import { countCommands } from '../support/wire.ts';

type Kit = ReturnType<typeof kitForTest>;

/** Enough ids for each master to have some. */
const IDS = Array.from({ length: 24 }, (_, id) => `id-${id}`);
const TIMEOUT_MS = 1_000;

async function startForTest(options: Parameters<typeof startCluster>[0] = {}): Promise<RedisCluster> {
  const cluster = await startCluster(options);
  onTestFinished(() => cluster.stop());
  return cluster;
}

function kitOn({ nodes }: RedisCluster, options: KitOptions = {}): Kit {
  const cluster = { nodes: nodes.map(({ host, port }) => ({ host, port })) };
  return kitForTest({ cluster, commandTimeout: TIMEOUT_MS, ...options });
}

/** Acquires and releases a lock for each id: 'fine' or the code of the error. */
async function tryAll(kit: Kit, ids: readonly string[] = IDS): Promise<Map<string, unknown>> {
  const outcomes = await Promise.all(
    ids.map(async (id): Promise<[string, unknown]> => {
      try {
        const lock = await kit.locks.tryAcquire(id, { lease: '3s' });
        return [id, lock === null ? 'held' : (await lock.release()) ? 'fine' : 'not freed'];
      } catch (error) {
        return [id, (error as { readonly code?: unknown }).code];
      }
    }),
  );
  return new Map(outcomes);
}

function areAllFine(outcomes: ReadonlyMap<string, unknown>): boolean {
  return [...outcomes.values()].every((outcome) => outcome === 'fine');
}

async function expectAllFine(kit: Kit): Promise<void> {
  expect([...(await tryAll(kit))].filter(([, outcome]) => outcome !== 'fine')).toEqual([]);
}

/** The ids by the index of their master. */
async function idsByMaster(kit: Kit, { nodes }: RedisCluster): Promise<readonly (readonly string[])[]> {
  const locks = await Promise.all(IDS.map((id) => kit.locks.tryAcquire(id)));
  const found = await Promise.all(
    nodes.map(({ server }) => withPlainClient(server.url, (client) => client.keys(`${kit.prefix}:lock:*`))),
  );
  await Promise.all(locks.map((lock) => lock?.release()));
  return found.map((keys) => IDS.filter((id) => keys.includes(`${kit.prefix}:lock:{${id}}`)));
}

function onEachNode({ nodes }: RedisCluster, command: readonly string[]): Promise<unknown> {
  return Promise.all(
    nodes.map(({ server }) => withPlainClient(server.url, (client) => client.sendCommand([...command]))),
  );
}

describeWithServers('a kit on a cluster', () => {
  it('on a cluster, each operation is one command to the master that serves its id', async () => {
    const cluster = await startForTest();
    const kit = kitOn(cluster);
    await kit.ready();
    const ids = await idsByMaster(kit, cluster);
    expect(ids.map((some) => some.length > 0)).toEqual([true, true, true]);
    await expectAllFine(kit);
    for (const [index, node] of cluster.nodes.entries()) {
      const commands = await countCommands(node.server.url, () => tryAll(kit));
      const names = commands.map(([name]) => name).filter((name) => name !== 'PING' && name !== 'CLUSTER');
      expect(names).toEqual(Array.from({ length: 2 * (ids[index]?.length ?? 0) }, () => 'EVALSHA'));
    }
  });

  it('the kit follows a slot that has moved to another master', async () => {
    const cluster = await startForTest();
    const [first, second] = cluster.nodes;
    if (first === undefined || second === undefined) throw new Error('no two masters');
    const nodes = [
      { host: '127.0.0.1', port: await freePort() },
      { host: first.host, port: first.port },
    ];
    const kit = kitForTest({ cluster: { nodes }, commandTimeout: TIMEOUT_MS });
    await kit.ready();
    const [id = ''] = (await idsByMaster(kit, cluster))[0] ?? [];
    const { slot, target } = await withPlainClient(second.server.url, async (client) => ({
      slot: String(await client.sendCommand(['CLUSTER', 'KEYSLOT', `{${id}}`])),
      target: String(await client.sendCommand(['CLUSTER', 'MYID'])),
    }));
    await withPlainClient(first.server.url, (client) => client.flushAll());
    await onEachNode(cluster, ['CLUSTER', 'SETSLOT', slot, 'NODE', target]);
    expect([...(await tryAll(kit, [id])).values()]).toEqual(['fine']);
    await expectAllFine(kit);
  });

  it('the kit authenticates at every node of a cluster', async () => {
    const cluster = await startForTest();
    await onEachNode(cluster, ['CONFIG', 'SET', 'requirepass', 'right']);
    const { nodes } = cluster;
    const rootNodes = nodes.map(({ host, port }) => ({ host, port }));
    const kit = kitForTest({ cluster: { nodes: rootNodes, password: 'right' } });
    await kit.ready();
    await expectAllFine(kit);
    const wrong = kitForTest({ cluster: { nodes: rootNodes, password: 'wrong' } });
    await expect(wrong.locks.tryAcquire('a')).rejects.toThrow(/cannot be reached: WRONGPASS/);
  });

  it('a kit that starts while all cluster nodes are down rejects calls at once, and recovers when the nodes are up', async () => {
    const cluster = await startForTest();
    await Promise.all(cluster.nodes.map(({ server }) => server.kill()));
    const kit = kitOn(cluster, { commandTimeout: '10s' });
    const downs = eventsOf(kit, 'connection:down');
    await until('the first attempt has failed', () => downs.length > 0);
    const elapsedMs = stopwatch();
    expect(new Set((await tryAll(kit)).values())).toEqual(new Set(['ERR_REDIS_KIT_CONNECTION']));
    expect(elapsedMs()).toBeLessThan(5_000);
    await Promise.all(cluster.nodes.map(({ server }) => server.restart()));
    await until('all ids work', async () => areAllFine(await tryAll(kit)));
  });
});

describeWithServers('a cluster that has lost a master', () => {
  it('without cluster-require-full-coverage, ids of the other masters work while one master is down', async () => {
    const cluster = await startForTest();
    await onEachNode(cluster, ['CONFIG', 'SET', 'cluster-require-full-coverage', 'no']);
    const kit = kitOn(cluster);
    await kit.ready();
    const [lost = [], ...others] = await idsByMaster(kit, cluster);
    const downs = eventsOf(kit, 'connection:down');
    await cluster.nodes[0]?.server.kill();
    await until('the loss is noticed', () => downs.length > 0);
    for (let round = 0; round < 5; round++) {
      const outcomes = await tryAll(kit);
      expect(others.flat().filter((id) => outcomes.get(id) !== 'fine')).toEqual([]);
      expect(lost.filter((id) => outcomes.get(id) === 'fine')).toEqual([]);
    }
    await cluster.nodes[0]?.server.restart();
    await until('all ids work', async () => areAllFine(await tryAll(kit)));
  });

  it('with cluster-require-full-coverage, requests are refused without waiting while one master is down', async () => {
    const cluster = await startForTest();
    const kit = kitOn(cluster);
    await kit.ready();
    await expectAllFine(kit);
    await cluster.nodes[2]?.server.kill();
    const refusesAll = async () => {
      const elapsedMs = stopwatch();
      const outcomes = await tryAll(kit);
      expect(elapsedMs(), 'acquire and release').toBeLessThan(TIMEOUT_MS * 3);
      return [...outcomes.values()].every((outcome) => outcome !== 'fine');
    };
    await until('the others refuse too', refusesAll);
    await cluster.nodes[2]?.server.restart();
    await until('all ids work', async () => areAllFine(await tryAll(kit)));
  });

  it('a breaker stops commands to a frozen cluster node, but not to other nodes', async () => {
    const cluster = await startForTest();
    await onEachNode(cluster, ['CONFIG', 'SET', 'cluster-require-full-coverage', 'no']);
    const kit = kitOn(cluster);
    await kit.ready();
    const [first = [], second = [], third = []] = await idsByMaster(kit, cluster);
    const breaker = eventsOf(kit, 'connection:breaker');
    const isOpen = (index: number) =>
      breaker.findLast(({ node }) => node.endsWith(`:${cluster.nodes[index]?.port}`))?.state === 'open';
    cluster.nodes[0]?.server.freeze();
    cluster.nodes[1]?.server.freeze();
    await tryAll(kit, [...first, ...second].slice(0, 16));
    await until('both are spared', async () => {
      await tryAll(kit, [...first, ...second]);
      return isOpen(0) && isOpen(1);
    });
    const elapsedMs = stopwatch();
    expect(areAllFine(await tryAll(kit, third))).toBe(true);
    expect(areAllFine(await tryAll(kit, [...first, ...second]))).toBe(false);
    expect(elapsedMs(), 'no request waits for a node with an open breaker').toBeLessThan(TIMEOUT_MS);
    cluster.nodes[1]?.server.thaw();
    await until('the one that thawed works', async () => areAllFine(await tryAll(kit, second)));
    expect(isOpen(0)).toBe(true);
    cluster.nodes[0]?.server.thaw();
    await until('all ids work', async () => areAllFine(await tryAll(kit)));
  });

  it('the kit works again without a restart after a failover to a replica', async () => {
    const cluster = await startForTest({ replicasPerMaster: 1 });
    const kit = kitOn(cluster);
    await kit.ready();
    await expectAllFine(kit);
    await cluster.nodes[0]?.server.kill();
    const killedAt = performance.now();
    await until('all ids work', async () => {
      const elapsedMs = stopwatch();
      const isFine = areAllFine(await tryAll(kit));
      expect(elapsedMs(), 'acquire and release').toBeLessThan(TIMEOUT_MS * 3);
      return isFine;
    });
    expect(performance.now() - killedAt, 'the cluster itself takes two seconds to notice').toBeGreaterThan(
      1_000,
    );
    await kit.ready();
    await expectAllFine(kit);
  });
});
