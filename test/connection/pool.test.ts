import * as redis6 from 'redis';
import * as redis5 from 'redis5';
import { expect, it, onTestFinished } from 'vitest';
import { destroyClient } from '../../src/connection/node-redis.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { connectedClients, startServerForTest } from '../support/pub-sub.ts';
import { freePort, startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';

/** A pool of one connection. */
function createPool(createClientPool: unknown, url: string) {
  const create = createClientPool as typeof redis6.createClientPool;
  const pool = create({ url, socket: { reconnectStrategy: 50 } }, { minimum: 1, maximum: 1 });
  pool.on('error', () => undefined);
  onTestFinished(() => pool.destroy());
  return pool;
}

/** Acquires and releases a lock, so that commands and binary replies are exchanged. */
async function use(kit: ReturnType<typeof kitForTest>): Promise<void> {
  const lock = await kit.locks.tryAcquire('borrowed');
  expect(await lock?.release()).toBe(true);
}

describeWithServers('a borrowed pool of node-redis', () => {
  const versions = [
    ['6', redis6.createClientPool],
    ['5', redis5.createClientPool],
  ] as const;

  it.each(versions)('a kit on a pool of version %s occupies no connection of the pool', async (_, create) => {
    const server = await startServerForTest();
    const pool = createPool(create, server.url);
    const kit = kitForTest({ client: pool });
    expect(kit.client).toBe(pool);
    await pool.connect();
    await kit.ready();
    await use(kit);
    expect(await connectedClients(server.url)).toBe(2);
    let endTask: () => void = () => undefined;
    const task = pool.execute(
      () =>
        new Promise<void>((resolve) => {
          endTask = resolve;
        }),
    );
    await use(kit);
    endTask();
    await task;
    await kit.close();
    await until('only the pool is connected', async () => (await connectedClients(server.url)) === 1);
    expect(await pool.ping()).toBe('PONG');
  });

  it.each(versions)(
    'a kit works on a pool of version %s that has no connection yet',
    async (_, createPoolOf) => {
      const server = await startServerForTest();
      const create = createPoolOf as typeof redis6.createClientPool;
      const pool = create({ url: server.url }, { minimum: 0, maximum: 1 });
      pool.on('error', () => undefined);
      onTestFinished(() => pool.destroy());
      await pool.connect();
      const kit = kitForTest({ client: pool });
      await kit.ready();
      await use(kit);
    },
  );

  it.each([
    ['6', redis6.createClient()],
    ['5', redis5.createClient()],
  ])('a client of version %s that is closed already can be destroyed', (_, client) => {
    expect(() => destroyClient(client)).not.toThrow();
  });

  it.each(versions)('a kit on a pool of version %s follows an outage', async (_, create) => {
    const server = await startServerForTest();
    const pool = createPool(create, server.url);
    await pool.connect();
    const kit = kitForTest({ client: pool });
    const downs = eventsOf(kit, 'connection:down');
    await use(kit);
    await server.kill();
    await until('the loss is noticed', () => downs.length === 1);
    await expect(kit.locks.tryAcquire('a')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONNECTION' });
    await server.restart();
    await kit.ready();
    await use(kit);
  });

  it.each(versions)(
    'a kit on a pool of version %s that has no connection yet works after an outage at the start',
    async (_, createPoolOf) => {
      const port = await freePort();
      const create = createPoolOf as typeof redis6.createClientPool;
      const url = `redis://127.0.0.1:${port}`;
      const pool = create({ url, socket: { reconnectStrategy: 50 } }, { minimum: 0, acquireTimeout: 100 });
      pool.on('error', () => undefined);
      onTestFinished(() => pool.destroy());
      await pool.connect();
      const kit = kitForTest({ client: pool });
      const downs = eventsOf(kit, 'connection:down');
      await until('the outage is emitted', () => downs.length === 1);
      const server = await startRedis({ port });
      onTestFinished(() => server.stop());
      await until('the kit works', () =>
        use(kit).then(
          () => true,
          () => false,
        ),
      );
    },
  );

  it('a kit on a pool that is not connected rejects commands at the end of their deadline', async () => {
    const server = await startServerForTest();
    const kit = kitForTest({
      client: createPool(redis6.createClientPool, server.url),
      commandTimeout: '200ms',
    });
    await expect(kit.locks.tryAcquire('a')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONNECTION' });
    expect(await connectedClients(server.url)).toBe(0);
  });
});
