import type { EventEmitter } from 'node:events';
import { beforeAll, expect, it, onTestFinished } from 'vitest';
import type { KitOptions } from '../../../src/index.ts';
import { describeWithServers } from '../../support/context.ts';
import { eventsOf } from '../../support/kits.ts';
import { ALL_WORKS, countUnderLoad, type MixedApp, startMixedApp } from '../../support/mixed-app.ts';
import { withPlainClient } from '../../support/plain-client.ts';
import { type RedisCluster, type RedisServer, startCluster, startRedis } from '../../support/servers.ts';
import { stopwatch } from '../../support/stopwatch.ts';
import { until } from '../../support/until.ts';

/** A recovery takes at most a second after the cluster's own; the rest is for a busy machine. */
const SOON_MS = 2_500;

/** The deadline of a request, and as much again for a busy machine and its other work. */
const NO_HANG_MS = 1_500;

let cluster: RedisCluster;

beforeAll(async () => {
  cluster = await startCluster({ masters: 3, replicasPerMaster: 1 });
  await onAll('CONFIG', 'SET', 'cluster-require-full-coverage', 'no');
  return () => cluster.stop();
});

function send({ url }: { readonly url: string }, ...command: readonly string[]): Promise<string> {
  return withPlainClient(url, async (client) => String(await client.sendCommand([...command])));
}

async function onAll(...command: readonly string[]): Promise<void> {
  await Promise.all(cluster.nodes.map(({ server }) => send(server, ...command)));
}

interface Node {
  readonly id: string;
  readonly server: RedisServer;
  readonly isMaster: boolean;
  /** The id of its master; `-` for a master. */
  readonly masterId: string;
  readonly hasFailed: boolean;
  /** The ranges of its slots: `0-5461`. */
  readonly slots: string;
}

/** The nodes as one of them sees the cluster. */
async function nodesSeenBy(viewer: RedisServer): Promise<readonly Node[]> {
  const lines = (await send(viewer, 'CLUSTER', 'NODES')).trim().split('\n');
  return lines.flatMap((line) => {
    const [id = '', address = '', flags = '', masterId = '', , , , , ...slots] = line.split(' ');
    const server = cluster.nodes.find(({ port }) => address.includes(`:${port}@`))?.server;
    if (server === undefined) return [];
    return [
      {
        id,
        server,
        isMaster: flags.includes('master'),
        masterId,
        hasFailed: /fail/.test(flags),
        slots: slots.join(' '),
      },
    ];
  });
}

async function masters(): Promise<readonly [Node, Node, Node]> {
  const [viewer] = cluster.nodes;
  if (viewer === undefined) throw new Error('no node');
  const nodes = (await nodesSeenBy(viewer.server)).filter(({ isMaster, slots }) => isMaster && slots !== '');
  const [first, second, third] = nodes;
  if (first === undefined || second === undefined || third === undefined) throw new Error('no three masters');
  return [first, second, third];
}

async function startWorkingApp(commandTimeout = '500ms'): Promise<MixedApp> {
  const nodes = cluster.nodes.map(({ host, port }) => ({ host, port }));
  const app = await startMixedApp({ cluster: { nodes }, commandTimeout } as KitOptions);
  await app.expectRecovery();
  return app;
}

/** Sends rounds, and checks that no request hangs, until `isOver`. */
async function roundsUntil(what: string, app: MixedApp, isOver: () => Promise<boolean>): Promise<void> {
  await until(what, async () => {
    const elapsedMs = stopwatch();
    await app.round();
    expect(elapsedMs(), 'no request hangs').toBeLessThan(NO_HANG_MS);
    return isOver();
  });
}

async function moveSlot(slot: string, from: Node, to: Node): Promise<void> {
  await send(to.server, 'CLUSTER', 'SETSLOT', slot, 'IMPORTING', from.id);
  await send(from.server, 'CLUSTER', 'SETSLOT', slot, 'MIGRATING', to.id);
  for (;;) {
    const keys = await withPlainClient(from.server.url, async (client) => {
      const reply = await client.sendCommand(['CLUSTER', 'GETKEYSINSLOT', slot, '10']);
      return Array.isArray(reply) ? reply.map(String) : [];
    });
    if (keys.length === 0) break;
    const { host, port } = to.server;
    await send(from.server, 'MIGRATE', host, String(port), '', '0', '5000', 'KEYS', ...keys);
  }
  for (const node of [to, from]) await send(node.server, 'CLUSTER', 'SETSLOT', slot, 'NODE', to.id);
}

describeWithServers('a bad day of a Cluster', () => {
  it('a slot moves under load, and no command fails or runs twice', async () => {
    const app = await startWorkingApp('1m');
    const load = countUnderLoad(app.kit);
    const [first, second, third] = await masters();
    const all = [first, second, third];
    for (const id of ['load-0', 'load-1', 'load-2']) {
      await load.counted(50);
      const slot = await send(first.server, 'CLUSTER', 'KEYSLOT', `{${id}}`);
      const from = await ownerOf(slot);
      const to = all.find((node) => node.id !== from.id) ?? first;
      await moveSlot(slot, from, to);
    }
    await load.counted(50);
    expect(await load.expectAtMostOnce()).toEqual({ unknown: 0 });
    expect(await app.round()).toEqual(ALL_WORKS);
  });

  it('a kit uses a node that joins under load', async () => {
    const app = await startWorkingApp('1m');
    const load = countUnderLoad(app.kit);
    const [first] = await masters();
    // Redis 7 makes a master without slots a replica.
    const replicaMigration = ['--cluster-allow-replica-migration', 'no'];
    const args = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000', ...replicaMigration];
    const added = await startRedis({ args });
    onTestFinished(() => added.stop());
    for (const { host, port } of cluster.nodes) await send(added, 'CLUSTER', 'MEET', host, String(port));
    const id = await send(added, 'CLUSTER', 'MYID');
    await until('each master knows the new node', async () => {
      const views = await Promise.all(
        (await masters()).map(({ server }) => send(server, 'CLUSTER', 'NODES')),
      );
      return views.every((view) => view.includes(id) && !view.includes('handshake'));
    });
    await until('the new node finds the cluster served', async () =>
      (await send(added, 'CLUSTER', 'INFO')).includes('cluster_state:ok'),
    );
    const slot = await send(first.server, 'CLUSTER', 'KEYSLOT', '{load-3}');
    const from = await ownerOf(slot);
    const to = { ...from, id, server: added };
    await moveSlot(slot, from, to);
    await load.counted(100);
    expect(Number(await send(added, 'DBSIZE')), 'the new node has the count').toBeGreaterThan(0);
    await moveSlot(slot, to, from);
    await load.counted(100);
    expect(await load.expectAtMostOnce()).toEqual({ unknown: 0 });
    await Promise.all(
      cluster.nodes.map(({ server }) => send(server, 'CLUSTER', 'FORGET', id).catch(() => undefined)),
    );
  });

  it('requests for a slot that no node serves fail at once, and those for other slots work', async () => {
    const app = await startWorkingApp('5s');
    const breaker = eventsOf(app.kit, 'connection:breaker');
    const [first] = await masters();
    const locks = (id: string) => app.kit.locks.tryAcquire(id).then((lock) => lock?.release());
    const slot = await send(first.server, 'CLUSTER', 'KEYSLOT', '{unserved}');
    const owner = await ownerOf(slot);
    await onAll('CLUSTER', 'DELSLOTS', slot);
    await expect(locks('unserved')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONNECTION' });
    const elapsedMs = stopwatch();
    for (let times = 0; times < 10; times++) await expect(locks('unserved')).rejects.toThrow(/slot/i);
    expect(elapsedMs(), 'ten deadlines would last 50 seconds').toBeLessThan(5_000);
    expect(breaker).toEqual([{ node: 'unserved-slots', state: 'open' }]);
    expect(await app.round()).toEqual(ALL_WORKS);
    await Promise.all(
      (await masters()).map(({ server }) => send(server, 'CLUSTER', 'SETSLOT', slot, 'NODE', owner.id)),
    );
    await until(
      'the slot works',
      () =>
        locks('unserved').then(
          () => true,
          () => false,
        ),
      SOON_MS,
    );
  });

  it('a slot that no node served when the kit connected works once a node serves it', async () => {
    const [first] = await masters();
    const slot = await send(first.server, 'CLUSTER', 'KEYSLOT', '{unknown}');
    const owner = await ownerOf(slot);
    await onAll('CLUSTER', 'DELSLOTS', slot);
    const app = await startWorkingApp('5s');
    const locks = () => app.kit.locks.tryAcquire('unknown').then((lock) => lock?.release());
    await expect(locks()).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONNECTION' });
    const elapsedMs = stopwatch();
    for (let times = 0; times < 10; times++) await expect(locks()).rejects.toThrow(/slot/);
    expect(elapsedMs(), 'ten deadlines would last 50 seconds').toBeLessThan(5_000);
    await Promise.all(
      (await masters()).map(({ server }) => send(server, 'CLUSTER', 'SETSLOT', slot, 'NODE', owner.id)),
    );
    await until(
      'the slot works',
      () =>
        locks().then(
          () => true,
          () => false,
        ),
      SOON_MS,
    );
  });

  it('a kit survives the kill of every connection to every node under load', async () => {
    const app = await startWorkingApp();
    const load = countUnderLoad(app.kit);
    for (let kill = 0; kill < 3; kill++) {
      await load.counted(100);
      for (const type of ['normal', 'pubsub']) await onAll('CLIENT', 'KILL', 'TYPE', type, 'SKIPME', 'yes');
    }
    await app.expectRecovery(SOON_MS);
    await load.counted(100);
    await load.expectAtMostOnce();
  });

  it.each(['kill', 'freeze'] as const)(
    'a kit follows the failover after the %s of a master, and no request hangs meanwhile',
    async (cause) => {
      // Redis's default: during the failover, the other masters refuse all commands with CLUSTERDOWN.
      await onAll('CONFIG', 'SET', 'cluster-require-full-coverage', 'yes');
      onTestFinished(() => onAll('CONFIG', 'SET', 'cluster-require-full-coverage', 'no'));
      const app = await startWorkingApp();
      const downs = eventsOf(app.kit, 'connection:down');
      const load = countUnderLoad(app.kit);
      await load.counted(50);
      const [victim, viewer] = await masters();
      if (cause === 'kill') await victim.server.kill();
      else {
        victim.server.freeze();
        onTestFinished(() => victim.server.thaw());
      }
      const hasFailedOver = async () => {
        const owners = (await nodesSeenBy(viewer.server)).filter((node) => node.slots === victim.slots);
        return owners.some((node) => node.isMaster && !node.hasFailed && node.id !== victim.id);
      };
      await roundsUntil('the replica is the master', app, hasFailedOver);
      await app.expectRecovery(SOON_MS);
      await load.counted(100);
      if (cause === 'kill') await victim.server.restart();
      else victim.server.thaw();
      await roundsUntil('the old master is a replica', app, () => isReplica(victim, viewer));
      await app.expectRecovery(SOON_MS);
      await load.counted(100);
      expect(downs.length).toBeLessThanOrEqual(1);
    },
  );

  it.each(['under load', 'without a command'])(
    'a kit follows a failover that comes after it has lost its socket to the frozen master (%s)',
    async (how) => {
      const app = await startWorkingApp();
      const downs = eventsOf(app.kit, 'connection:down');
      let lostSockets = 0;
      (app.kit.client as EventEmitter).on('node-reconnecting', () => void lostSockets++);
      const [victim, viewer] = await masters();
      const replica = (await nodesSeenBy(viewer.server)).find(({ masterId }) => masterId === victim.id);
      if (replica === undefined) throw new Error('the master has no replica');
      await send(replica.server, 'CONFIG', 'SET', 'cluster-replica-no-failover', 'yes');
      onTestFinished(async () => {
        await send(replica.server, 'CONFIG', 'SET', 'cluster-replica-no-failover', 'no');
      });
      victim.server.freeze();
      onTestFinished(() => victim.server.thaw());
      if (how === 'under load') await roundsUntil('a socket is lost', app, async () => lostSockets > 0);
      else await until('the kit reports the outage', () => downs.length > 0);
      await send(replica.server, 'CLUSTER', 'FAILOVER', 'TAKEOVER');
      await app.expectRecovery(SOON_MS);
      victim.server.thaw();
      await roundsUntil('the old master is a replica', app, () => isReplica(victim, viewer));
      await app.expectRecovery(SOON_MS);
    },
  );
});

async function isReplica({ id }: Node, viewer: Node): Promise<boolean> {
  const node = (await nodesSeenBy(viewer.server)).find((seen) => seen.id === id);
  return node !== undefined && !node.isMaster && !node.hasFailed;
}

async function ownerOf(slot: string): Promise<Node> {
  const isIn = (ranges: string) =>
    ranges.split(' ').some((range) => {
      const [low, high = low] = range.split('-').map(Number);
      return low !== undefined && high !== undefined && low <= Number(slot) && Number(slot) <= high;
    });
  const owner = (await masters()).find(({ slots }) => isIn(slots));
  if (owner === undefined) throw new Error(`no owner of slot ${slot}`);
  return owner;
}
