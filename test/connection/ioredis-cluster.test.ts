import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keySlot } from '../../src/connection/key-slot.ts';
import { IOREDIS_NAMES, type IoredisName, ioredisClusterForTest } from '../support/clients.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { type RedisCluster, startCluster } from '../support/servers.ts';
import { keepingLogger } from '../support/stores.ts';
import { until } from '../support/until.ts';

type Kit = ReturnType<typeof kitForTest>;

/** Sixty ids, which are on all masters. */
const IDS = Array.from({ length: 60 }, (_, id) => `id-${id}`);

async function acquireAndRelease(kit: Kit, id: string): Promise<boolean> {
  const lock = await kit.locks.tryAcquire(id, { lease: '10s' });
  return (await lock?.release()) === true;
}

/** Acquires and releases locks on every master. */
async function use(kit: Kit): Promise<void> {
  const results = await Promise.allSettled(IDS.map((id) => acquireAndRelease(kit, id)));
  expect(results.filter((result) => result.status === 'rejected' || !result.value)).toEqual([]);
}

const works = (kit: Kit) =>
  use(kit).then(
    () => true,
    () => false,
  );

/** Moves a slot without keys from its master to the next one, while `during` runs. */
async function moveSlot(cluster: RedisCluster, slot: number, during: () => Promise<void>): Promise<void> {
  const from = Math.floor((slot * 3) / 16_384);
  const to = (from + 1) % 3;
  const ask = (index: number, ...command: string[]) =>
    withPlainClient(cluster.nodes[index]?.server.url ?? '', (node) => node.sendCommand(command));
  const [fromId, toId] = [
    String(await ask(from, 'CLUSTER', 'MYID')),
    String(await ask(to, 'CLUSTER', 'MYID')),
  ];
  await ask(to, 'CLUSTER', 'SETSLOT', `${slot}`, 'IMPORTING', fromId);
  await ask(from, 'CLUSTER', 'SETSLOT', `${slot}`, 'MIGRATING', toId);
  try {
    await during();
  } finally {
    for (const index of [to, from]) await ask(index, 'CLUSTER', 'SETSLOT', `${slot}`, 'NODE', toId);
  }
}

function promisesOf(name: IoredisName): void {
  let cluster: RedisCluster;

  beforeAll(async () => {
    cluster = await startCluster();
  });

  afterAll(() => cluster.stop());

  it('a cluster client stays open after kit.close(), without listeners of the kit', async () => {
    const client = ioredisClusterForTest(name, cluster.nodes);
    await until('it is connected', () => client.status === 'ready');
    const emitter = client as unknown as NodeJS.EventEmitter;
    const count = () => emitter.eventNames().map((event) => emitter.listenerCount(event));
    const before = count();
    const kit = kitForTest({ client });
    expect(kit.client).toBe(client);
    await use(kit);
    await kit.close();
    expect(count()).toEqual(before);
    expect(client.status).toBe('ready');
    expect(await client.get('no such key')).toBeNull();
  });

  it('a cluster client with `lazyConnect` is connected by kit.ready()', async () => {
    const client = ioredisClusterForTest(name, cluster.nodes, { lazyConnect: true });
    const kit = kitForTest({ client });
    await new Promise(setImmediate);
    expect(client.status).toBe('wait');
    await kit.ready();
    await use(kit);
  });

  it('a cluster client may read from replicas and have no offline queue', async () => {
    const options = { scaleReads: 'slave', enableOfflineQueue: false, enableAutoPipelining: true };
    const kit = kitForTest({ client: ioredisClusterForTest(name, cluster.nodes, options) });
    await kit.ready();
    await use(kit);
  });

  it('a cluster client that sends commands again gets one warning, which names the option', () => {
    const client = ioredisClusterForTest(name, cluster.nodes);
    const logger = keepingLogger();
    for (let kits = 0; kits < 2; kits++) kitForTest({ client, logger });
    expect(logger.lines.filter((line) => line.includes('retryDelayOnFailover: 0'))).toHaveLength(1);
  });

  it('commands follow a slot that moves to another master', async () => {
    const client = ioredisClusterForTest(name, cluster.nodes);
    const kit = kitForTest({ client, prefix: testPrefix() });
    const limiter = kit.limiter({ algorithm: 'sliding-window', limit: 9, window: '1h', name: 'moved' });
    await use(kit);
    await limiter.consume('known scripts');
    let lock: ReturnType<typeof kit.locks.tryAcquire> | undefined;
    await moveSlot(cluster, keySlot('{moved}'), async () => {
      // The reply of the old master is ASK. A command with one key runs on the new master at once.
      expect(await limiter.consume('moved')).toMatchObject({ degraded: false, remaining: 8 });
      // A command with several keys gets TRYAGAIN until the slot has moved.
      lock = kit.locks.tryAcquire('moved');
    });
    expect((await lock)?.fence).toBeGreaterThan(0);
    expect(await limiter.consume('moved'), 'by MOVED').toMatchObject({ degraded: false, remaining: 7 });
    await use(kit);
  });

  it('a command that was redirected to a killed master does not run once the master is back', async () => {
    const kit = kitForTest({ client: ioredisClusterForTest(name, cluster.nodes), commandTimeout: '300ms' });
    await until('it works', () => works(kit));
    const slot = keySlot('redirected');
    const target = cluster.nodes[(Math.floor((slot * 3) / 16_384) + 1) % 3]?.server;
    if (target === undefined) throw new Error('no such master');
    await moveSlot(cluster, slot, async () => {
      await target.kill();
      await expect(kit.locks.tryAcquire('redirected', { lease: '1m' })).rejects.toThrow();
      await target.restart();
      await until('the kit works again', () => works(kit), 20_000);
      const count = ['CLUSTER', 'COUNTKEYSINSLOT', `${slot}`];
      expect(await withPlainClient(target.url, (node) => node.sendCommand(count))).toBe(0);
    });
    await until('the kit works again', () => works(kit), 20_000);
  });

  it('a killed master fails only its own slots, at once, until it is back', async () => {
    const client = ioredisClusterForTest(name, cluster.nodes);
    const kit = kitForTest({ client });
    const downs = eventsOf(kit, 'connection:down');
    await use(kit);
    const server = cluster.nodes[1]?.server;
    await server?.kill();
    await until('the loss is noticed', () => downs.length > 0);
    const started = performance.now();
    const results = await Promise.allSettled(IDS.map((id) => acquireAndRelease(kit, id)));
    expect(performance.now() - started, 'without waiting for the deadline').toBeLessThan(5_000);
    const failed = results.filter(({ status }) => status === 'rejected');
    expect(failed.length).toBeGreaterThan(0);
    for (const result of failed)
      expect(result).toMatchObject({ reason: { code: 'ERR_REDIS_KIT_CONNECTION' } });
    await server?.restart();
    await kit.ready();
    await until('all slots work', () => works(kit));
  });

  it('a frozen master opens only its own breaker', async () => {
    const client = ioredisClusterForTest(name, cluster.nodes);
    const kit = kitForTest({ client, commandTimeout: '400ms' });
    const breaker = eventsOf(kit, 'connection:breaker');
    await until('it works', () => works(kit));
    const node = cluster.nodes[2];
    node?.server.freeze();
    await Promise.allSettled(IDS.map((id) => acquireAndRelease(kit, id)));
    node?.server.thaw();
    expect(breaker).toContainEqual({ node: `${node?.host}:${node?.port}`, state: 'open' });
    await until('all slots work', () => works(kit));
    await until('the breaker is closed', () => breaker.at(-1)?.state === 'closed');
  });
}

describeWithServers('a borrowed cluster client of ioredis or iovalkey', () => {
  describe.each(IOREDIS_NAMES)('a cluster client of %s', promisesOf);
});
