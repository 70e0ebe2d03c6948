import { setTimeout as pause } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { type RedisServer, startCluster } from '../support/servers.ts';
import { until } from '../support/until.ts';

/** The last slots of the first and the second of three masters. */
const ENDS = [5_462, 10_923] as const;

/** A cluster of three masters, the first of which may fail, and ids by their slots. */
async function startForTest() {
  const { nodes, stop } = await startCluster();
  onTestFinished(stop);
  const [first, second, third] = nodes.map(({ server }) => server);
  if (first === undefined || second === undefined || third === undefined) throw new Error('no three masters');
  await send([second, third], ['CONFIG', 'SET', 'cluster-require-full-coverage', 'no']);
  const slots = new Map<string, number>();
  for (let id = 0; id < 24; id++) {
    slots.set(`id-${id}`, Number((await send([third], ['CLUSTER', 'KEYSLOT', `id-${id}`]))[0]));
  }
  const idsIn = (begin: number, end: number) =>
    [...slots].flatMap(([id, slot]) => (slot >= begin && slot < end ? [id] : []));
  const kit = () => {
    // Discovered through the node that stays up.
    const cluster = { nodes: [{ host: third.host, port: third.port }] };
    return kitForTest({ cluster, commandTimeout: '500ms' });
  };
  const ids = { first: idsIn(0, ENDS[0]), second: idsIn(...ENDS) };
  return { first, second, third, ids, kit, slotOf: (id: string) => slots.get(id) ?? 0 };
}

function send(
  servers: readonly RedisServer[],
  ...commands: readonly (readonly string[])[]
): Promise<unknown[]> {
  const answers = servers.map(({ url }) =>
    withPlainClient(url, (client) =>
      Promise.all(commands.map((command) => client.sendCommand([...command]))),
    ),
  );
  return Promise.all(answers).then((all) => all.flat());
}

async function areFine(kit: ReturnType<typeof kitForTest>, ...ids: readonly string[]): Promise<boolean> {
  const locks = await Promise.allSettled(ids.map((id) => kit.locks.tryAcquire(id)));
  for (const lock of locks) if (lock.status === 'fulfilled') await lock.value?.release();
  return locks.every((lock) => lock.status === 'fulfilled' && lock.value !== null);
}

describeWithServers('the circuit breaker of a master that does not answer', () => {
  it('a breaker stays open after its slots have moved, and is removed when its master leaves the cluster', async () => {
    const { first, second, third, ids, slotOf, ...start } = await startForTest();
    const kit = start.kit();
    await kit.ready();
    const events = eventsOf(kit, 'connection:breaker');
    const states = () =>
      events.filter(({ node }) => node.endsWith(`:${first.port}`)).map(({ state }) => state);

    const move = async (target: RedisServer, slots: readonly number[]) => {
      const [id] = await send([target], ['CLUSTER', 'MYID']);
      await send(
        [second, third],
        ...slots.map((slot) => ['CLUSTER', 'SETSLOT', String(slot), 'NODE', String(id)]),
      );
    };
    /** An id that has moved from a node that is up: a command for it makes the client refresh the topology. */
    const learn = async (id = '') => {
      await move(third, [slotOf(id)]);
      await until('the kit has learned of it', () => areFine(kit, id));
    };

    const [moved = ''] = ids.first;
    first.freeze();
    await until('the first is spared', async () => {
      await areFine(kit, moved);
      return states().length > 0;
    });
    await move(second, [slotOf(moved)]);
    await learn(ids.second[0]);
    await pause(1_500);
    expect(await areFine(kit, moved)).toBe(true);
    expect(states(), 'after several questions').toEqual(['open']);

    await move(
      second,
      Array.from({ length: ENDS[0] }, (_, slot) => slot),
    );
    const [known] = await send([third], ['CLUSTER', 'NODES']);
    const line = String(known)
      .split('\n')
      .find((node) => node.includes(`:${first.port}@`));
    await send([second, third], ['CLUSTER', 'FORGET', String(line).slice(0, 40)]);
    await learn(ids.second[1]);
    expect(await areFine(kit, ...ids.first)).toBe(true);
    await until('the first node is no longer used', () => states().length > 1, 2_000);
    expect(states()).toEqual(['open', 'closed']);
  });

  it.each(['frozen', 'slow'])(
    'a breaker opens for commands that began to wait before the topology was known (%s)',
    async (how) => {
      const { first, ids, ...start } = await startForTest();
      if (how === 'frozen') first.freeze();
      else await send([first], ['CLIENT', 'PAUSE', '10000', 'WRITE']);
      const kit = start.kit();
      const events = eventsOf(kit, 'connection:breaker');
      expect(await areFine(kit, ...ids.first)).toBe(false);
      expect(events[0]).toEqual({ node: `${first.host}:${first.port}`, state: 'open' });
    },
  );
});
