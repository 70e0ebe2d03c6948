import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import type { ClusterOptions, RedisKit } from '../../src/index.ts';
import { describeWithServers, redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startProxy } from '../support/proxy.ts';
import { type RedisCluster, startCluster } from '../support/servers.ts';
import { until } from '../support/until.ts';

/** Enough ids for each master to have some. */
const IDS = Array.from({ length: 24 }, (_, id) => `id-${id}`);

type OwnCluster = { readonly slots: readonly { readonly master: { readonly address: string } }[] };

async function expectAllToWork(kit: RedisKit): Promise<void> {
  await kit.ready();
  const locks = await Promise.all(IDS.map((id) => kit.locks.tryAcquire(id)));
  expect(locks.every((lock) => lock !== null)).toBe(true);
  await Promise.all(locks.map((lock) => lock?.release()));
}

describeWithServers('the addresses of a cluster', () => {
  let cluster: RedisCluster;
  beforeAll(async () => {
    cluster = await startCluster({ masters: 2 });
  });
  afterAll(() => cluster.stop());

  const onEach = (...command: string[]) =>
    Promise.all(
      cluster.nodes.map(({ server }) => withPlainClient(server.url, (client) => client.sendCommand(command))),
    );

  /** A proxy before each node, by the address that the node announces. */
  async function startProxies() {
    const proxies = await Promise.all(cluster.nodes.map(({ server }) => startProxy(server)));
    const entries = cluster.nodes.map(
      ({ port }, at) => [`127.0.0.1:${port}`, proxies[at]?.url ?? ''] as const,
    );
    return { proxies, map: Object.fromEntries(entries), nodes: proxies.map(({ url }) => url) };
  }

  it('a nodeAddressMap that throws is reported as an outage with its error, and commands do not wait', async () => {
    const nodes = cluster.nodes.map(({ host, port }) => ({ host, port }));
    const nodeAddressMap = () => {
      throw new Error('no such node');
    };
    const kit = kitForTest({ cluster: { nodes, nodeAddressMap } });
    const downs = eventsOf(kit, 'connection:down');
    await until('the outage is emitted', () => downs.length > 0);
    expect(downs[0]?.error.message).toContain('no such node');
    for (const id of IDS) await expect(kit.locks.tryAcquire(id)).rejects.toThrow('no such node');
  });

  it.each<[string, (map: Readonly<Record<string, string>>) => ClusterOptions['nodeAddressMap']]>([
    ['an object', (map) => map],
    [
      'an object with host and port',
      (map) =>
        Object.fromEntries(
          Object.entries(map).map(([address, url]) => [
            address,
            { host: '127.0.0.1', port: Number(new URL(url).port) },
          ]),
        ),
    ],
    ['a function', (map) => (address) => map[address]],
  ])('nodes are connected at the addresses of a nodeAddressMap that is %s', async (_, mapOf) => {
    const { proxies, map, nodes } = await startProxies();
    const kit = kitForTest({ cluster: { nodes, nodeAddressMap: mapOf(map) } });
    await expectAllToWork(kit);
    for (const proxy of proxies) expect(proxy.scripts.length).toBeGreaterThan(0);
  });

  it('a node that is not in the nodeAddressMap is connected at the address that it announces', async () => {
    const { proxies, map, nodes } = await startProxies();
    const [mapped = ''] = Object.keys(map);
    const kit = kitForTest({
      cluster: { nodes, nodeAddressMap: (address) => (address === mapped ? map[mapped] : undefined) },
    });
    await expectAllToWork(kit);
    expect(proxies.map(({ scripts }) => scripts.length > 0)).toEqual([true, false]);
  });

  it('commands for a node behind a map are refused at once while its address is closed', async () => {
    const { proxies, map, nodes } = await startProxies();
    const kit = kitForTest({ cluster: { nodes, nodeAddressMap: map }, commandTimeout: '60s' });
    await expectAllToWork(kit);
    const downs = eventsOf(kit, 'connection:down');
    proxies[0]?.sever();
    await until('the loss is noticed', () => downs.length > 0);
    const outcomes = await Promise.allSettled(IDS.map((id) => kit.locks.tryAcquire(id)));
    const failures = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(failures.length).toBeGreaterThan(0);
    expect(failures.length).toBeLessThan(IDS.length);
    for (const lock of outcomes) if (lock.status === 'fulfilled') await lock.value?.release();
    for (const { reason } of failures) expect(reason).toMatchObject({ code: 'ERR_REDIS_KIT_CONNECTION' });
    proxies[0]?.mend();
    await until('all ids work', () =>
      expectAllToWork(kit).then(
        () => true,
        () => false,
      ),
    );
  });

  it.each<[string, () => unknown, RegExp]>([
    [
      'throws',
      () => {
        throw new Error('no such container');
      },
      /no such container/,
    ],
    ['returns no address', () => 'http://x', /nodeAddressMap` is with the scheme 'http:'/],
  ])('a nodeAddressMap that %s is reported', async (_, nodeAddressMap, message) => {
    const nodes = cluster.nodes.map(({ host, port }) => `${host}:${port}`);
    const kit = kitForTest({
      cluster: { nodes, nodeAddressMap: nodeAddressMap as () => string },
      // The kit tries again until then.
      commandTimeout: '2s',
    });
    await expect(kit.locks.tryAcquire('a')).rejects.toThrow(message);
  });

  it('nodes that announce no host are connected at the host of the listed node, also for ASK', async () => {
    await onEach('CONFIG', 'SET', 'cluster-preferred-endpoint-type', 'unknown-endpoint');
    const [first, second] = cluster.nodes;
    if (first === undefined || second === undefined) throw new Error('no two masters');
    const kit = kitForTest({ cluster: { nodes: [`127.0.0.1:${first.port}`] } });
    await expectAllToWork(kit);
    const addresses = (kit.client as unknown as OwnCluster).slots.map(({ master }) => master.address);
    expect(new Set(addresses)).toEqual(new Set([`null:${first.port}`, `null:${second.port}`]));
    const slot = Number(
      await withPlainClient(first.server.url, (client) =>
        client.sendCommand(['CLUSTER', 'KEYSLOT', '{ann}']),
      ),
    );
    const [from, to] = addresses[slot] === `null:${first.port}` ? [first, second] : [second, first];
    const [fromId, toId] = await Promise.all(
      [from, to].map(({ server }) =>
        withPlainClient(server.url, (client) => client.sendCommand(['CLUSTER', 'MYID'])),
      ),
    );
    const setSlot = (node: typeof from, ...state: string[]) =>
      withPlainClient(node.server.url, (client) =>
        client.sendCommand(['CLUSTER', 'SETSLOT', `${slot}`, ...state]),
      );
    await setSlot(to, 'IMPORTING', String(fromId));
    await setSlot(from, 'MIGRATING', String(toId));
    onTestFinished(async () => {
      await withPlainClient(to.server.url, (client) => client.flushAll());
      await setSlot(to, 'STABLE');
      await setSlot(from, 'STABLE');
      await onEach('CONFIG', 'SET', 'cluster-preferred-endpoint-type', 'ip');
    });
    const limiter = kit.limiter({ algorithm: 'sliding-window', limit: 5, window: '1m' });
    for (const used of [1, 2]) {
      expect(await limiter.consume('ann')).toMatchObject({ degraded: false, policies: [{ used }] });
    }
    const moved = await withPlainClient(to.server.url, (client) => client.keys(`${kit.prefix}:rate:*`));
    expect(moved).toHaveLength(1);
  });

  it('each node of a cluster asks for the password again when it connects', async () => {
    const nodes = cluster.nodes.map(({ host, port }) => ({ host, port }));
    const setUser = (password: string) =>
      onEach('ACL', 'SETUSER', 'app', 'reset', 'on', '~*', '&*', '+@all', `>${password}`);
    let password = 'one';
    await setUser(password);
    const kit = kitForTest({ cluster: { nodes, username: 'app', password: async () => password } });
    await expectAllToWork(kit);
    password = 'two';
    await setUser(password);
    await onEach('CLIENT', 'KILL', 'USER', 'app');
    await until('all ids work', () =>
      expectAllToWork(kit).then(
        () => true,
        () => false,
      ),
    );
    const list = String((await onEach('CLIENT', 'LIST')).join('\n'));
    expect(list.split('\n').filter((line) => line.includes(` name=${kit.prefix} `)).length).toBe(2);
  });

  it('a server without cluster support is reported with the remedy', async () => {
    const kit = kitForTest({ cluster: { nodes: [redisUrl()] } });
    await expect(kit.locks.tryAcquire('a')).rejects.toThrow(
      /cluster support disabled; .*use `url` in place of `cluster`/,
    );
  });
});
