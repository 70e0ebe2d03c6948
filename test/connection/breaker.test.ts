import { expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { type PlainClient, withPlainClient } from '../support/plain-client.ts';
import { type RedisCluster, startCluster } from '../support/servers.ts';
import { until } from '../support/until.ts';

type Kit = ReturnType<typeof kitForTest>;

const SLOTS_OF_THE_FIRST = 5_462;

/** A cluster of three masters, and ids that the first of them serves. */
async function startForTest() {
  const cluster = await startCluster();
  onTestFinished(() => cluster.stop());
  const [first, ...others] = cluster.nodes.map(({ server, host, port }) => ({
    server,
    name: `${host}:${port}`,
  }));
  if (first === undefined) throw new Error('no master');
  for (const { server } of others) {
    await withPlainClient(server.url, (client) => client.configSet('cluster-require-full-coverage', 'no'));
  }
  const ids = await withPlainClient(first.server.url, async (client) => {
    const all = Array.from({ length: 24 }, (_, id) => `id-${id}`);
    const slots = await Promise.all(all.map((id) => slotOf(client, id)));
    return all.filter((_, index) => Number(slots[index]) < SLOTS_OF_THE_FIRST);
  });
  return { cluster, first, others, ids };
}

async function slotOf(client: PlainClient, id: string): Promise<string> {
  return String(await client.sendCommand(['CLUSTER', 'KEYSLOT', `{${id}}`]));
}

/** Discovers the cluster by its last master, which stays well. */
function kitOn({ nodes }: RedisCluster): Kit {
  const node = nodes.at(-1);
  return kitForTest({
    cluster: { nodes: [{ host: node?.host ?? '', port: node?.port }] },
    commandTimeout: '500ms',
  });
}

async function isFine(kit: Kit, id: string): Promise<boolean> {
  const use = async () => {
    await using lock = await kit.locks.tryAcquire(id, { renew: false });
    return lock !== null;
  };
  return use().catch((e) => (console.log(performance.now(), e.message), false));
}

describeWithServers('the breaker of a silent master', () => {
  it('asks that master, also when others serve what it served, and goes with it when it is forgotten', async () => {
    const { cluster, first, others, ids } = await startForTest();
    const kit = kitOn(cluster);
    await kit.ready();
    const events = eventsOf(kit, 'connection:breaker');
    const told = () => events.filter(({ node }) => node === first.name).map(({ state }) => state);
    const [id = ''] = ids;
    first.server.freeze();
    await until('the first is spared', async () => {
      await isFine(kit, id);
      return told().length > 0;
    });

    /** Gives slots of the first to the second, and says so to all that can hear it. */
    const move = async (slots: readonly string[]) => {
      const target = await withPlainClient(others[0]?.server.url ?? '', (client) =>
        client.sendCommand(['CLUSTER', 'MYID']),
      );
      for (const { server } of others) {
        await withPlainClient(server.url, (client) =>
          Promise.all(
            slots.map((slot) => client.sendCommand(['CLUSTER', 'SETSLOT', slot, 'NODE', String(target)])),
          ),
        );
      }
    };
    const slot = await withPlainClient(others[0]?.server.url ?? '', (client) => slotOf(client, id));
    await move([slot]);
    await until('the second serves it', () => isFine(kit, id), 15_000);
    // Longer than the pause between two questions.
    const end = performance.now() + 1_500;
    while (performance.now() < end) expect(await isFine(kit, id)).toBe(true);
    expect(told()).toEqual(['open']);

    await move(Array.from({ length: SLOTS_OF_THE_FIRST }, (_, index) => String(index)));
    for (const { server } of others) {
      await withPlainClient(server.url, async (client) => {
        const known = String(await client.sendCommand(['CLUSTER', 'NODES'])).split('\n');
        const line = known.find((node) => node.includes(first.name)) ?? '';
        await client.sendCommand(['CLUSTER', 'FORGET', line.slice(0, 40)]);
      });
    }
    await until(
      'the others serve all',
      async () => (await Promise.all(ids.map((each) => isFine(kit, each)))).every(Boolean),
      15_000,
    );
    await until('nobody asks the first any more', () => told().length === 2, 15_000);
    expect(told()).toEqual(['open', 'closed']);
  });

  it('is its own also for requests that came before the cluster was known', async () => {
    const { cluster, first, ids } = await startForTest();
    first.server.freeze();
    const kit = kitOn(cluster);
    const events = eventsOf(kit, 'connection:breaker');
    const early = [...ids, ...ids].map((id) => isFine(kit, id));
    expect(new Set(await Promise.all(early))).toEqual(new Set([false]));
    expect(events).toEqual([{ node: first.name, state: 'open' }]);
  });
});
