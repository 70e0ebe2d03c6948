import { createSentinel } from 'redis';
import { createSentinel as createSentinel5 } from 'redis5';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { connectPlainClient, withPlainClient } from '../support/plain-client.ts';
import { connectForTest, recordChannel } from '../support/pub-sub.ts';
import { type RedisSentinel, startSentinel } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';

/** From the decision of the sentinels until commands succeed again. */
const RECOVERY_MS = 2_000;

function ignore(): void {
  // Without a listener of its owner, a lost sentinel would end the process.
}

describeWithServers('a kit on a borrowed Sentinel client', () => {
  let group: RedisSentinel;

  beforeAll(async () => {
    group = await startSentinel();
  });

  afterAll(() => group?.stop());

  const options = () => ({
    name: group.name,
    sentinelRootNodes: group.sentinels.map(({ host, port }) => ({ host, port })),
  });

  const lend6 = () => createSentinel({ ...options(), reserveClient: true, masterPoolSize: 2 });
  const lend5 = () => createSentinel5(options());

  describe.each([
    ['node-redis 6', lend6],
    ['node-redis 5', lend5],
  ])('a borrowed Sentinel client of %s', (_family, lend) => {
    async function lendForTest() {
      const client = lend();
      client.on('error', ignore);
      await client.connect();
      onTestFinished(() => client.destroy());
      return client;
    }

    it('the kit uses the master of a connected client, and leaves the client open and without listeners', async () => {
      const client = await lendForTest();
      const kit = kitForTest({ client });
      await kit.ready();
      expect(kit.client).toBe(client);
      await expectUse(kit);
      await kit.close();
      expect(client.isOpen).toBe(true);
      expect(client.listenerCount('topology-change')).toBe(0);
      await expectUse(kitForTest({ client }));
    });

    it('a client that connects after the kit was created is used as soon as it is connected', async () => {
      const client = lend();
      client.on('error', ignore);
      const kit = kitForTest({ client });
      const ups = eventsOf(kit, 'connection:up');
      await client.connect();
      onTestFinished(() => client.destroy());
      await kit.ready();
      expect(ups).toEqual([{ mode: 'sentinel' }]);
      await expectUse(kit);
    });

    it('a master that is a replica for some time is used again when it is a master', async () => {
      const client = await lendForTest();
      const kit = kitForTest({ client, commandTimeout: 500 });
      const downs = eventsOf(kit, 'connection:down');
      await expectUse(kit);
      const { url } = await group.master();
      const replicate = (...master: string[]) =>
        withPlainClient(url, (plain) => plain.sendCommand(['REPLICAOF', ...master]));
      await replicate('127.0.0.1', '1');
      await expect(kit.locks.tryAcquire('used')).rejects.toThrow('READONLY');
      await until('the outage is reported', () => downs.length > 0);
      await replicate('NO', 'ONE');
      await until('the kit uses the master', () =>
        expectUse(kit).then(
          () => true,
          () => false,
        ),
      );
    });

    it.each(['kill', 'freeze'] as const)(
      'commands and subscriptions follow the master of the client (%s)',
      async (cause) => {
        const client = await lendForTest();
        const { connection, pubSub, errors } = connectForTest({ client });
        const recorder = recordChannel(pubSub, 'a');
        await until('the channel is up', () => recorder.isUp);
        const key = `${testPrefix()}-in-flight`;
        const increment = (timeoutMs: number) => connection.send(key, ['INCR', key], timeoutMs);
        await connection.send(key, ['SET', key, '0', 'PX', '60000'], 2_000);
        const old = await group.master();
        if (cause === 'freeze') old.freeze();
        else await old.kill();
        const inFlight = Array.from({ length: 10 }, () => expect(increment(10_000)).rejects.toThrow());

        const master = await group.failOver(cause);
        const elapsedMs = stopwatch();
        await until('commands succeed', () =>
          connection.send(key, ['EXISTS', key], 200).then(
            () => true,
            () => false,
          ),
        );
        expect(elapsedMs()).toBeLessThan(RECOVERY_MS);
        await Promise.all(inFlight);
        expect(await increment(2_000)).toBe(1);
        const publisher = await connectPlainClient(master.url);
        onTestFinished(() => publisher.destroy());
        await until('the new master has the subscriber', async () => {
          await publisher.publish('a', 'hello');
          return recorder.messages.includes('hello');
        });
        expect(errors).toEqual([]);
        await group.heal();
      },
    );
  });
});

async function expectUse(kit: ReturnType<typeof kitForTest>): Promise<void> {
  const lock = await kit.locks.tryAcquire('used');
  expect(lock?.fence).toBeGreaterThan(0);
  expect(await lock?.release()).toBe(true);
}
