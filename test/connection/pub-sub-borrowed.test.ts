import type { EventEmitter } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { BasicClientSideCache, createClient, RESP_TYPES } from 'redis';
import { expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import {
  connectForTest,
  listenersAt,
  publisherFor,
  receivesAgain,
  recordChannel,
  startServerForTest,
} from '../support/pub-sub.ts';
import { until } from '../support/until.ts';

type ClientOptions = NonNullable<Parameters<typeof createClient>[0]>;

function ignore(): void {
  // Without a listener of its owner, a lost socket would end the process.
}

function lend(options: ClientOptions) {
  const client = createClient(options);
  client.on('error', ignore);
  onTestFinished(() => client.destroy());
  return client;
}

function listenerCounts(client: EventEmitter): ReadonlyMap<unknown, number> {
  return new Map(client.eventNames().map((name) => [name, client.listenerCount(name)]));
}

describeWithServers('Pub/Sub with a borrowed client', () => {
  it.each<[string, ClientOptions]>([
    ['is as it comes', {}],
    ['speaks RESP2', { RESP: 2 }],
    [
      'maps types',
      { commandOptions: { typeMapping: { [RESP_TYPES.NUMBER]: String, [RESP_TYPES.BLOB_STRING]: Buffer } } },
    ],
    ['gives up at the first loss', { socket: { reconnectStrategy: false } }],
    ['pings by itself, and gives silence up', { pingInterval: 300, socket: { socketTimeout: 1_000 } }],
  ])('Pub/Sub works with a borrowed client that %s', async (_, options) => {
    const server = await startServerForTest();
    const client = lend({ url: server.url, ...options });
    await client.connect();
    const { pubSub } = connectForTest({ client });
    const recorders = ['a', { pattern: 'b*' }].map((channel) => recordChannel(pubSub, channel));
    const publisher = await publisherFor(server);
    for (let loss = 0; loss < 2; loss++) {
      for (const [index, recorder] of recorders.entries())
        await receivesAgain(recorder, publisher, 'ab'[index] ?? '');
      await publisher.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub']);
      await until('the loss is noticed', () =>
        recorders.every((recorder) => recorder.changes.length > 1 + 2 * loss),
      );
    }
    await until('all are up', () => recorders.every((recorder) => recorder.isUp));
    expect(client.isReady).toBe(true);
    expect(recorders.map((recorder) => recorder.changes)).toEqual(
      recorders.map(() => [true, false, true, false, true]),
    );
  });

  it('with RESP2, only the last of many subscribes and unsubscribes in a row takes effect', async () => {
    const server = await startServerForTest();
    const client = lend({ url: server.url, RESP: 2 });
    await client.connect();
    const { pubSub } = connectForTest({ client });
    const publisher = await publisherFor(server);
    for (let round = 0; round < 100; round++) {
      const recorders = ['a', 'b'].map((channel) => recordChannel(pubSub, channel));
      if (round % 5 === 0) await until('they are up', () => recorders.every((recorder) => recorder.isUp));
      if (round % 2 === 0) await publisher.ping();
      for (const recorder of recorders) recorder.stop();
    }
    const recorder = recordChannel(pubSub, 'a');
    await receivesAgain(recorder, publisher, 'a');
    expect(recorder.messages).toHaveLength(1);
  });

  it('with RESP2, a subscriber connection notices a frozen server', async () => {
    const server = await startServerForTest();
    const client = lend({ url: server.url, RESP: 2 });
    await client.connect();
    const { pubSub } = connectForTest({ client });
    const recorder = recordChannel(pubSub, 'a');
    await until('it is up', () => recorder.isUp);
    server.freeze();
    await until('it is down', () => !recorder.isUp);
    server.thaw();
    await receivesAgain(recorder, await publisherFor(server), 'a');
  });

  it('a subscriber connection does not clear the client-side cache of the borrowed client', async () => {
    const server = await startServerForTest();
    const cache = new BasicClientSideCache({ ttl: 0, maxEntries: 0, evictPolicy: 'LRU' });
    const client = lend({ url: server.url, clientSideCache: cache });
    await client.connect();
    const { pubSub } = connectForTest({ client });
    const recorder = recordChannel(pubSub, 'a');
    const publisher = await publisherFor(server);
    await receivesAgain(recorder, publisher, 'a');
    await client.get('a key');
    expect(cache.size()).toBe(1);
    await publisher.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub']);
    await until('the loss is noticed', () => recorder.changes.length > 1);
    await receivesAgain(recorder, publisher, 'a');
    expect(cache.size()).toBe(1);
  });

  it('a borrowed client stays open and unchanged when the subscriber connection closes', async () => {
    const server = await startServerForTest();
    const client = lend({ url: server.url });
    await client.connect();
    const before = listenerCounts(client);
    const { connection, pubSub } = connectForTest({ client });
    const recorder = recordChannel(pubSub, 'a');
    const publisher = await publisherFor(server);
    await receivesAgain(recorder, publisher, 'a');
    expect(client.isPubSubActive).toBe(false);
    expect(await listenersAt(server.url)).toHaveLength(1);
    await connection.close(1_000);
    await until('ours is closed', async () => (await listenersAt(server.url)).length === 0);
    expect(listenerCounts(client)).toEqual(before);
    expect(await client.ping()).toBe('PONG');
  });

  it('a subscriber connection waits for a borrowed client that connects late or is closed meanwhile', async () => {
    const server = await startServerForTest();
    const client = lend({ url: server.url });
    const { pubSub } = connectForTest({ client });
    const recorder = recordChannel(pubSub, 'a');
    // Long enough for several attempts with a client that is not connected.
    await pause(700);
    expect(client.isOpen).toBe(false);
    expect(await listenersAt(server.url)).toEqual([]);
    await client.connect();
    const publisher = await publisherFor(server);
    await receivesAgain(recorder, publisher, 'a');
    client.destroy();
    await until('it is down, as the client is', () => !recorder.isUp);
    expect(await listenersAt(server.url)).toEqual([]);
    await client.connect();
    await receivesAgain(recorder, publisher, 'a');
  });

  it('a borrowed client that cannot be duplicated is reported as an error event', async () => {
    const server = await startServerForTest();
    const client = lend({ url: server.url });
    await client.connect();
    const view = Object.create(client, { duplicate: { value: undefined } }) as typeof client;
    const { pubSub, errors } = connectForTest({ client: view });
    const recorder = recordChannel(pubSub, 'a');
    await until('it is reported', () => errors.length > 0);
    expect(errors[0]).toMatchObject({ feature: 'connection', error: { code: 'ERR_REDIS_KIT_CONNECTION' } });
    expect(recorder.changes).toEqual([]);
  });
});
