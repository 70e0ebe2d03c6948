import { describe, expect, it, onTestFinished } from 'vitest';
import { Emitter } from '../../src/base/emitter.ts';
import type { KitEvents } from '../../src/base/events.ts';
import { silentLogger } from '../../src/base/logger.ts';
import type { Adapter } from '../../src/connection/adapter.ts';
import { Connection } from '../../src/connection/connection.ts';
import { Transport } from '../../src/connection/transport.ts';
import { ReplyError } from '../../src/engine/port.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { type RedisCluster, type RedisServer, startCluster } from '../support/servers.ts';
import { until } from '../support/until.ts';

const FIRST_PAUSES_MS = [20, 40, 80];
const LONGEST_PAUSE_MS = 100;

/** The largest number of attempts that fit into a time, with the shortest pauses. */
function mostTries(ms: number): number {
  return 1 + FIRST_PAUSES_MS.length + Math.floor(ms / LONGEST_PAUSE_MS);
}

async function startForTest(masters: number): Promise<RedisCluster> {
  const cluster = await startCluster({ masters });
  onTestFinished(() => cluster.stop());
  return cluster;
}

async function send(server: RedisServer, ...command: readonly string[]): Promise<string> {
  return withPlainClient(server.url, async (client) => String(await client.sendCommand([...command])));
}

/** How often a server has replied with this error. */
async function refusals(server: RedisServer, word: string): Promise<number> {
  const stats = await send(server, 'INFO', 'errorstats');
  return Number(new RegExp(`errorstat_${word}:count=(\\d+)`).exec(stats)?.[1] ?? 0);
}

/** Increments two keys of one slot. */
function limiterOn({ nodes }: RedisCluster, commandTimeout: '500ms' | '10s') {
  const kit = kitForTest({
    cluster: { nodes: nodes.map(({ host, port }) => ({ host, port })) },
    commandTimeout,
  });
  const policy = (name: string) => ({ algorithm: 'sliding-window', limit: 100, window: '1h', name }) as const;
  const { limiter } = kit.rateLimit({ policies: [policy('a'), policy('b')], onError: 'deny' });
  return { kit, limiter, slot: (server: RedisServer) => send(server, 'CLUSTER', 'KEYSLOT', '{ann}') };
}

describeWithServers('a command that a cluster refuses without running it', () => {
  it('a command for a slot that is moving is sent again, with pauses, until the slot has moved', async () => {
    const cluster = await startForTest(3);
    const { kit, limiter, slot: slotOf } = limiterOn(cluster, '10s');
    await kit.ready();
    const [first, second] = cluster.nodes.map(({ server }) => server);
    if (first === undefined || second === undefined) throw new Error('no two masters');
    const slot = await slotOf(first);
    const servers = cluster.nodes.map(({ server }) => server);
    const ids = await Promise.all(servers.map((server) => send(server, 'CLUSTER', 'MYID')));
    const owner = servers.findIndex((_, index) => Number(slot) < Math.ceil(((index + 1) * 16_384) / 3));
    const target = (owner + 1) % 3;
    const [from, to] = [servers[owner] ?? first, servers[target] ?? second];
    await send(to, 'CLUSTER', 'SETSLOT', slot, 'IMPORTING', ids[owner] ?? '');
    await send(from, 'CLUSTER', 'SETSLOT', slot, 'MIGRATING', ids[target] ?? '');

    const began = performance.now();
    const decision = limiter.consume('ann');
    await until('it was refused three times', async () => (await refusals(to, 'TRYAGAIN')) >= 3);
    for (const server of servers) await send(server, 'CLUSTER', 'SETSLOT', slot, 'NODE', ids[target] ?? '');
    expect(await decision).toMatchObject({ allowed: true, used: 1, degraded: false });
    const ms = performance.now() - began;
    expect(await refusals(to, 'TRYAGAIN')).toBeLessThanOrEqual(mostTries(ms));
    expect((await limiter.peek('ann')).used, 'it ran once').toBe(1);
  });

  it('a command for a slot that no node serves is sent again until a node serves it', async () => {
    const cluster = await startForTest(1);
    const { kit, limiter, slot: slotOf } = limiterOn(cluster, '10s');
    await kit.ready();
    const [server] = cluster.nodes.map((node) => node.server);
    if (server === undefined) throw new Error('no master');
    const slot = await slotOf(server);
    await send(server, 'CLUSTER', 'DELSLOTS', slot);
    const decision = limiter.consume('ann');
    await until('it was refused twice', async () => (await refusals(server, 'CLUSTERDOWN')) >= 2);
    await send(server, 'CLUSTER', 'ADDSLOTS', slot);
    expect(await decision).toMatchObject({ allowed: true, used: 1 });
  });

  it('a slot that no node serves is reported as one outage until a node serves it', async () => {
    const cluster = await startForTest(1);
    const { kit, limiter, slot: slotOf } = limiterOn(cluster, '500ms');
    await kit.ready();
    const breaker = eventsOf(kit, 'connection:breaker');
    const [server] = cluster.nodes.map((node) => node.server);
    if (server === undefined) throw new Error('no master');
    const slot = await slotOf(server);
    await send(server, 'CLUSTER', 'DELSLOTS', slot);
    // Each peek is a command, while concurrent calls of `consume` with one id share a command.
    const outcomes = () =>
      Promise.allSettled(Array.from({ length: 4 }, () => limiter.peek('ann'))).then((all) =>
        all.map(({ status }) => status),
      );
    expect(new Set(await outcomes())).toEqual(new Set(['rejected']));
    expect(breaker.map(({ state }) => state)).toEqual(['open']);
    const refusedAtFirst = await refusals(server, 'CLUSTERDOWN');
    await until('it was tried again three times', async () => {
      await outcomes();
      return (await refusals(server, 'CLUSTERDOWN')) >= refusedAtFirst + 3;
    });
    expect(breaker.map(({ state }) => state)).toEqual(['open']);
    await send(server, 'CLUSTER', 'ADDSLOTS', slot);
    await until('it works', async () => (await outcomes()).every((status) => status === 'fulfilled'));
    expect(breaker.map(({ state }) => state)).toEqual(['open', 'closed']);
  });
});

/** A connection to a server that refuses the first commands with an error, and the commands that it received. */
function refusingServer(message: string, times: number) {
  const sent: string[] = [];
  const adapter: Adapter = {
    mode: 'standalone',
    client: undefined,
    lastError: undefined,
    open: () => undefined,
    nodeOf: () => 'redis',
    status: () => 'up',
    overallStatus: () => 'up',
    send(_key, command) {
      sent.push(String(command[0]));
      return sent.length > times ? Promise.resolve(7) : Promise.reject(new ReplyError(message));
    },
    errorOf: (error) => error,
    masters: () => [],
    ping: () => Promise.reject(new ReplyError(message)),
    reconnect: () => undefined,
    refreshTopology: () => undefined,
    createSubscriber: () => undefined,
    close: () => undefined,
  };
  const connection = new Connection(
    new Transport(() => adapter),
    new Emitter<KitEvents>(silentLogger),
    60_000,
  );
  onTestFinished(() => connection.close(0));
  return { sent, connection };
}

describe('an error reply', () => {
  it.each([
    'TRYAGAIN Multiple keys request during rehashing of slot',
    'CLUSTERDOWN Hash slot not served',
    'LOADING Redis is loading the dataset in memory',
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    'NOAUTH Authentication required.',
    'ERR Protocol error: unauthenticated multibulk length',
    "READONLY You can't write against a read only replica.",
    "READONLY You can't write against a read only replica. script: 4ab7, on @user_script:9.",
    "ERR Error running script (call to f_4ab7): @user_script:9: @user_script: 9: -READONLY You can't write against a read only replica.",
    'BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.',
  ])(
    'a command is sent again after an error reply that rules out that it had an effect: %s',
    async (message) => {
      const { sent, connection } = refusingServer(message, 3);
      expect(await connection.send('a', ['GET', 'a'], 60_000)).toBe(7);
      expect(sent).toEqual(['GET', 'GET', 'GET', 'GET']);
    },
  );

  it.each([
    'ERR unknown command',
    'OOM command not allowed when used memory > maxmemory.',
    'BUSYGROUP Consumer Group name already exists',
    'NOSCRIPT No matching script.',
    'LOADING Redis is loading. script: 4ab7, on @user_script:9.',
    'MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist to disk.',
    'NOREPLICAS Not enough good replicas to write. script: 4ab7, on @user_script:9.',
    'ERR Error running script (call to f_4ab7): @user_script:9: @user_script: 9: -NOAUTH Authentication required.',
  ])(
    'a command is not sent again after an error reply that may come from a command that ran: %s',
    async (message) => {
      const { sent, connection } = refusingServer(message, 3);
      await expect(connection.send('a', ['GET', 'a'], 60_000)).rejects.toThrow(message);
      expect(sent).toEqual(['GET']);
    },
  );

  it('a command rejects with the error reply if no time is left to send it again', async () => {
    const { sent, connection } = refusingServer('LOADING Redis is loading the dataset in memory', 1_000);
    await expect(connection.send('a', ['GET', 'a'], 10)).rejects.toThrow('LOADING');
    expect(sent).toEqual(['GET']);
    await expect(connection.send('a', ['GET', 'a'], 250)).rejects.toThrow('LOADING');
    // Attempts come at 20, 60, 140 and 240 ms at the earliest.
    expect(sent.length).toBeGreaterThan(1);
    expect(sent.length).toBeLessThanOrEqual(6);
  });

  it('a command rejects with the error reply if the pause outlasts the time that is left', async () => {
    const { sent, connection } = refusingServer('LOADING Redis is loading the dataset in memory', 1_000);
    const result = connection.send('a', ['GET', 'a'], 40);
    await new Promise(setImmediate);
    // A blocked event loop counts as 50 ms at most.
    const until = performance.now() + 100;
    while (performance.now() < until);
    await expect(result).rejects.toThrow('LOADING');
    expect(sent).toEqual(['GET']);
  });
});
