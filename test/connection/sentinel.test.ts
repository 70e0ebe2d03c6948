import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import type { KitOptions } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { connectPlainClient, withPlainClient } from '../support/plain-client.ts';
import {
  connectForTest,
  recordChannel,
  startServerForTest,
  type TestConnection,
} from '../support/pub-sub.ts';
import { freePort, type RedisSentinel, type RedisServer, startSentinel } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';

/** From the decision of the sentinels until commands succeed again. */
const RECOVERY_MS = 1_000;

describeWithServers('a kit with `sentinel`', () => {
  let group: RedisSentinel;

  beforeAll(async () => {
    group = await startSentinel();
  });

  afterAll(() => group?.stop());

  const sentinel = () => ({
    name: group.name,
    nodes: group.sentinels.map(({ host, port }) => ({ host, port })),
  });

  it('the kit sends its commands to the master, and its mode is `sentinel`', async () => {
    const kit = kitForTest({ sentinel: sentinel() });
    const ups = eventsOf(kit, 'connection:up');
    await kit.ready();
    expect(ups).toEqual([{ mode: 'sentinel' }]);
    await expectUse(kit);
    const client = kit.client as unknown as { get(key: string): Promise<unknown> };
    expect(await client.get('outside-nothing')).toBeNull();
  });

  it('the url of a sentinel is answered with a hint at the option `sentinel`', async () => {
    const [{ url } = { url: '' }] = group.sentinels;
    const { ok, error } = await kitForTest({ url }).check();
    expect([ok, error]).toEqual([false, expect.stringContaining('connect with the option `sentinel`')]);
  });

  it.each(['order', 'kill', 'freeze'] as const)(
    'commands and subscriptions follow the master within a second of a failover (%s)',
    async (cause) => {
      const { connection, pubSub, errors } = connectForTest({ sentinel: sentinel() });
      const recorder = recordChannel(pubSub, 'a');
      await until('the channel is up', () => recorder.isUp);
      await useKey(connection);

      const master = await group.failOver(cause);
      const elapsedMs = stopwatch();
      await until('commands succeed', () => useKey(connection).then(Boolean, () => false));
      expect(elapsedMs()).toBeLessThan(RECOVERY_MS);
      const publisher = await connectPlainClient(master.url);
      onTestFinished(() => publisher.destroy());
      await until('the new master has the subscriber', async () => {
        await publisher.publish('a', 'hello');
        return recorder.messages.includes('hello');
      });
      expect(elapsedMs()).toBeLessThan(2 * RECOVERY_MS);

      expect(errors).toEqual([]);
      await group.heal();
      expect(await useKey(connection)).toBe(1);
    },
  );

  it('a command that a frozen master has received is not sent to the next one', async () => {
    const { connection } = connectForTest({ sentinel: sentinel() });
    await connection.ready();
    const key = `${testPrefix()}-in-flight`;
    const increment = () => connection.send(key, ['INCR', key], 60_000);
    const old = await group.master();
    await connection.send(key, ['SET', key, '0', 'PX', '60000'], 2_000);
    old.freeze();
    const inFlight = Array.from({ length: 10 }, () =>
      expect(increment()).rejects.toThrow('connection was lost'),
    );
    await group.failOver('freeze');
    await Promise.all(inFlight);
    expect(await increment()).toBe(1);
    await group.heal();
    expect(await increment()).toBe(2);
  });

  it('a master that has become a replica is left, and is used again when it is a master', async () => {
    const kit = kitForTest({ sentinel: sentinel(), commandTimeout: 500 });
    const downs = eventsOf(kit, 'connection:down');
    await expectUse(kit);
    const { url } = await group.master();
    const replicate = (...master: string[]) =>
      withPlainClient(url, (client) => client.sendCommand(['REPLICAOF', ...master]));
    await replicate('127.0.0.1', '1');
    await until('commands are rejected with the role', () =>
      kit.locks.tryAcquire('used').then(
        () => false,
        (error: Error) => error.message.includes('for its sentinels: it is a replica'),
      ),
    );
    expect(downs).toHaveLength(1);
    await replicate('NO', 'ONE');
    await until('the kit uses the master', () =>
      expectUse(kit).then(
        () => true,
        () => false,
      ),
    );
  });

  it('a kit that starts while the master is down becomes ready after the failover', async () => {
    const old = await group.master();
    await old.kill();
    const kit = kitForTest({ sentinel: sentinel() });
    const downs = eventsOf(kit, 'connection:down');
    await until('the outage is reported', () => downs.length > 0);
    expect(downs[0]?.error.message).toContain(
      `master '${group.name}', which is 127.0.0.1:${old.port} for its sentinels: connect ECONNREFUSED`,
    );
    const { client } = kit;
    await group.failOver('kill');
    await kit.ready();
    await expectUse(kit);
    expect(kit.client).not.toBe(client);
    await group.heal();
  });

  it('a sentinel that names a replica does not keep the kit from the master', async () => {
    const stale = await startStaleSentinel(group.name);
    const nodes = [stale, ...group.sentinels].map(({ host, port }) => `${host}:${port}`);
    await expectUse(kitForTest({ sentinel: { name: group.name, nodes } }));

    const kit = kitForTest({ sentinel: { name: group.name, nodes: [`127.0.0.1:${stale.port}`] } });
    const downs = eventsOf(kit, 'connection:down');
    await until('the outage is reported', () => downs.length > 0);
    expect(downs[0]?.error.message).toMatch(/for its sentinels: it is a replica/);
  });

  it('a sentinel that is down or knows another master does not matter while one knows the master', async () => {
    const nodes = [`127.0.0.1:${await freePort()}`, ...sentinel().nodes];
    await expectUse(kitForTest({ sentinel: { name: group.name, nodes } }));
  });

  it.each<[string, (port: number) => Partial<NonNullable<KitOptions['sentinel']>>, RegExp]>([
    [
      'of an unknown name',
      () => ({ name: 'no-such' }),
      /names the master 'no-such': sentinel 127\.0\.0\.1:\d+: it knows no/,
    ],
    [
      'without a sentinel',
      (port) => ({ nodes: [`127.0.0.1:${port}`] }),
      /sentinel 127\.0\.0\.1:\d+: connect ECONNREFUSED/,
    ],
    [
      'with a password that the sentinel has not',
      () => ({ sentinelUsername: 'nobody', sentinelPassword: 'secret-word' }),
      /sentinel 127\.0\.0\.1:\d+: WRONGPASS .*; check `sentinelUsername` and `sentinelPassword`$/,
    ],
    [
      'with a password that the master refuses',
      () => ({ username: 'nobody', password: 'secret-word' }),
      /for its sentinels: WRONGPASS .*; check `username` and `password`/,
    ],
    [
      'with a Redis server in place of a sentinel',
      () => ({ nodes: group.servers.map(({ host, port }) => ({ host, port })) }),
      /sentinel 127\.0\.0\.1:\d+: .*unknown command .*; a Redis server listens there and no sentinel/,
    ],
  ])('a kit %s reports the reason', async (_what, change, reason) => {
    const kit = kitForTest({ sentinel: { ...sentinel(), ...change(await freePort()) } });
    const downs = eventsOf(kit, 'connection:down');
    await until('the outage is reported', () => downs.length > 0);
    const { message } = downs[0]?.error ?? {};
    expect(message).toMatch(/^Redis cannot be reached: /);
    expect(message).toMatch(reason);
    expect(message).not.toContain('secret-word');
  });
});

describeWithServers('a kit with `sentinel` and passwords', () => {
  it('the kit logs in at the sentinels and at the master, and selects the database', async () => {
    const passwords = { password: 'data', sentinelPassword: 'watch' };
    const group = await startSentinel({ ...passwords, replicas: 0 });
    onTestFinished(() => group.stop());
    const nodes = group.sentinels.map(({ port }) => `redis://127.0.0.1:${port}`);
    const asked: string[] = [];
    const nodeAddressMap = (address: string) => void asked.push(address);
    const kit = kitForTest({ sentinel: { name: group.name, nodes, ...passwords, db: 3, nodeAddressMap } });
    await expectUse(kit);
    expect(asked).toEqual([`127.0.0.1:${group.servers[0]?.port}`]);
    const url = `redis://:data@127.0.0.1:${group.servers[0]?.port}/3`;
    expect(await withPlainClient(url, (client) => client.dbSize())).toBeGreaterThan(0);
  });
});

/** A sentinel that takes a replica for the master of this name, and knows no other sentinel. */
async function startStaleSentinel(name: string): Promise<RedisServer> {
  const master = await startServerForTest();
  const replica = await startServerForTest({ args: ['--replicaof', `${master.host} ${master.port}`] });
  const sentinel = await startServerForTest({ isSentinel: true });
  await withPlainClient(sentinel.url, (client) =>
    client.sendCommand(['SENTINEL', 'MONITOR', name, replica.host, `${replica.port}`, '1']),
  );
  return sentinel;
}

async function expectUse(kit: ReturnType<typeof kitForTest>): Promise<void> {
  const lock = await kit.locks.tryAcquire('used');
  expect(lock?.fence).toBeGreaterThan(0);
  expect(await lock?.release()).toBe(true);
}

/** Writes a key, with so little time that the caller can try again soon. Resolves to 1. */
function useKey(connection: TestConnection['connection']): Promise<unknown> {
  const script = "redis.call('SET', KEYS[1], '', 'PX', 60000) return 1";
  return connection.send('t-used', ['EVAL', script, '1', 't-used'], 200);
}
