import { createClient, createCluster, RESP_TYPES } from 'redis';
import { createClient as createClient5 } from 'redis5';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { destroyClient } from '../../src/connection/node-redis.ts';
import type { BorrowedClient } from '../../src/index.ts';
import { describeWithServers, redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { type RedisCluster, startCluster, startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';

/** The methods of node-redis clients that these tests use. */
interface Lent extends BorrowedClient {
  readonly isOpen: boolean;
  connect(): Promise<unknown>;
  destroy(): void;
}

interface Lender {
  lend(): Lent;
}

function ignore(): void {
  // Without a listener of its owner, a lost socket would end the process.
}

/** The listeners of the real client, for any object through which it was passed. */
function listenersOf(client: object): Map<unknown, readonly unknown[]> {
  let owner: object = client;
  while (!Object.hasOwn(owner, '_events')) owner = Object.getPrototypeOf(owner) as object;
  const events = (owner as { readonly _events: Readonly<Record<string, unknown>> })._events;
  return new Map(Reflect.ownKeys(events).map((name) => [name, [Reflect.get(events, name)].flat()]));
}

/** Acquires and releases a lock, so that commands and binary replies are exchanged. */
async function use(kit: ReturnType<typeof kitForTest>): Promise<void> {
  const lock = await kit.locks.tryAcquire('borrowed');
  expect(lock?.fence).toBeGreaterThan(0);
  expect(await lock?.release()).toBe(true);
}

function promisesOfALentClient({ lend }: Lender): void {
  function lendForTest(): Lent {
    const client = lend();
    onTestFinished(() => client.destroy());
    return client;
  }

  it('a borrowed client stays open after kit.close()', async () => {
    const client = lendForTest();
    client.on('error', ignore);
    await client.connect();
    const kit = kitForTest({ client });
    expect(kit.client).toBe(client);
    await kit.ready();
    await use(kit);
    await kit.close();
    expect(client.isOpen).toBe(true);
    await use(kitForTest({ client }));
  });

  it.each([0, 1, 2])(
    'kit.close() removes its listeners from a borrowed client that has %i listeners of the app',
    async (own) => {
      const client = lendForTest();
      const names = ['error', 'ready'].slice(0, own);
      for (const name of names) client.on(name, ignore);
      const before = listenersOf(client);
      const kit = kitForTest({ client });
      expect(listenersOf(client)).not.toEqual(before);
      await client.connect();
      await use(kit);
      await kit.close();
      expect(listenersOf(client)).toEqual(before);
      let wasHeard = false;
      client.on('later', () => {
        wasHeard = true;
      });
      Object.getPrototypeOf(client).emit('later');
      expect(wasHeard, 'what is added afterwards').toBe(true);
    },
  );

  it('a client that 30 kits borrow causes no listener warning', async () => {
    const client = lendForTest();
    const warnings: string[] = [];
    const note = ({ message }: Error) => void warnings.push(message);
    process.on('warning', note);
    onTestFinished(() => void process.off('warning', note));
    for (let own = 0; own < 10; own++) client.on('error', () => undefined);
    const before = listenersOf(client);
    const kits = Array.from({ length: 30 }, () => kitForTest({ client }));
    const ups = kits.map((kit) => eventsOf(kit, 'connection:up'));
    await Promise.all(kits.slice(0, 10).map((kit) => kit.close()));
    await client.connect();
    const left = kits.slice(10);
    await Promise.all(left.map((kit) => kit.ready()));
    await use(left[0] ?? kitForTest({ client }));
    expect(ups.map(({ length }) => length)).toEqual([...Array(10).fill(0), ...Array(20).fill(1)]);
    await Promise.all(left.map((kit) => kit.close()));
    expect(listenersOf(client)).toEqual(before);
    await new Promise(setImmediate);
    expect(warnings).toEqual([]);
  });

  it('a kit whose client the app has closed rejects commands at once, until the app connects the client', async () => {
    const client = lendForTest();
    client.on('error', ignore);
    const kit = kitForTest({ client });
    const downs = eventsOf(kit, 'connection:down');
    await client.connect();
    await kit.ready();
    client.destroy();
    await expect(kit.locks.tryAcquire('a')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONNECTION' });
    expect(downs).toHaveLength(1);
    await client.connect();
    await kit.ready();
    await use(kit);
  });

  it('a borrowed client is never connected by the kit, and is used once the app connects it', async () => {
    const client = lendForTest();
    client.on('error', ignore);
    const kit = kitForTest({ client, commandTimeout: '200ms' });
    const ups = eventsOf(kit, 'connection:up');
    for (let turn = 0; turn < 4; turn++) {
      await expect(kit.locks.tryAcquire('a')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONNECTION' });
    }
    expect(client.isOpen).toBe(false);
    await client.connect();
    await kit.ready();
    await until('it works', () =>
      use(kit).then(
        () => true,
        () => false,
      ),
    );
    expect(ups).toHaveLength(1);
  });
}

describe('a borrowed client of node-redis', () => {
  promisesOfALentClient({ lend: () => createClient({ url: redisUrl() }) as unknown as Lent });

  it('a borrowed client may have a type mapping, an offline queue and a timeout', async () => {
    const client = createClient({
      url: redisUrl(),
      commandOptions: {
        typeMapping: { [RESP_TYPES.NUMBER]: String },
        timeout: 1_000,
      },
    });
    client.on('error', ignore);
    await client.connect();
    onTestFinished(() => client.destroy());
    await use(kitForTest({ client }));
    await use(kitForTest({ client: client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }) }));
    expect(await client.echo('still a string'), 'and keeps it').toBe('still a string');
  });

  it.each([
    ['6', createClient],
    ['5', createClient5 as unknown as typeof createClient],
  ])('a kit whose client of version %s does not reconnect rejects commands at once', async (_, create) => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const client = create({ url: server.url, socket: { reconnectStrategy: false } });
    client.on('error', ignore);
    await client.connect();
    onTestFinished(() => destroyClient(client));
    const kit = kitForTest({ client: client as unknown as Lent });
    const downs = eventsOf(kit, 'connection:down');
    await kit.ready();
    await withPlainClient(server.url, (admin) => admin.sendCommand(['CLIENT', 'KILL', 'TYPE', 'normal']));
    await until('the outage is emitted', () => downs.length === 1);
    await expect(kit.locks.tryAcquire('a')).rejects.toThrow('call and await its connect()');
    await client.connect();
    await kit.ready();
    await use(kit);
  });

  it('a client that withTypeMapping() returned may be borrowed', async () => {
    const client = createClient({ url: redisUrl() });
    client.on('error', ignore);
    await client.connect();
    onTestFinished(() => client.destroy());
    const before = listenersOf(client);
    const kit = kitForTest({ client: client.withTypeMapping({}) });
    await use(kit);
    await kit.close();
    expect(listenersOf(client)).toEqual(before);
  });

  it('a borrowed client may use RESP2', async () => {
    const client = createClient({ url: redisUrl(), RESP: 2 });
    client.on('error', ignore);
    await client.connect();
    onTestFinished(() => client.destroy());
    await use(kitForTest({ client }));
  });
});

describeWithServers('a borrowed client whose server restarts', () => {
  it('a borrowed client is used again after it has reconnected', async () => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const client = createClient({ url: server.url, socket: { reconnectStrategy: 50 } });
    client.on('error', ignore);
    await client.connect();
    onTestFinished(() => client.destroy());
    const kit = kitForTest({ client });
    const downs = eventsOf(kit, 'connection:down');
    await use(kit);
    await server.kill();
    await until('the loss is noticed', () => downs.length === 1);
    await expect(kit.locks.tryAcquire('a')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONNECTION' });
    await server.restart();
    await kit.ready();
    await use(kit);
  });
});

describeWithServers('a borrowed cluster of node-redis', () => {
  let cluster: RedisCluster;

  beforeAll(async () => {
    cluster = await startCluster();
  });

  afterAll(() => cluster.stop());

  const rootNodes = () => cluster.nodes.map(({ server }) => ({ url: server.url }));
  promisesOfALentClient({ lend: () => createCluster({ rootNodes: rootNodes() }) as unknown as Lent });

  it('a borrowed cluster that was connected before the kit loses its sockets without an outage', async () => {
    const client = createCluster({ rootNodes: rootNodes() });
    client.on('error', ignore);
    await client.connect();
    onTestFinished(() => client.destroy());
    const kit = kitForTest({ client });
    const downs = eventsOf(kit, 'connection:down');
    let losses = 0;
    client.on('node-reconnecting', () => losses++);
    await kit.ready();
    for (const { server } of cluster.nodes) {
      await withPlainClient(server.url, (admin) => admin.sendCommand(['CLIENT', 'KILL', 'TYPE', 'normal']));
    }
    await until('each socket is lost', () => losses >= cluster.nodes.length);
    await Promise.all(Array.from({ length: 24 }, (_, id) => kit.locks.tryAcquire(`${id}`)));
    expect(downs).toEqual([]);
  });

  it('a borrowed cluster may connect its nodes on demand', async () => {
    const client = createCluster({ rootNodes: rootNodes(), minimizeConnections: true });
    client.on('error', ignore);
    await client.connect();
    onTestFinished(() => client.destroy());
    const kit = kitForTest({ client });
    await kit.ready();
    await use(kit);
  });

  it('a dead node of a borrowed cluster is retried with a pause', async () => {
    const doomed = await startCluster();
    onTestFinished(() => doomed.stop());
    const client = createCluster({
      rootNodes: doomed.nodes.map(({ server }) => ({ url: server.url })),
      defaults: { socket: { reconnectStrategy: false } },
      minimizeConnections: true,
    });
    client.on('error', ignore);
    await client.connect();
    onTestFinished(() => client.destroy());
    await doomed.nodes[0]?.server.kill();
    const kit = kitForTest({ client, commandTimeout: '1s' });
    let attempts = 0;
    client.on('node-error', () => attempts++);
    const end = performance.now() + 500;
    while (performance.now() < end) {
      const some = Array.from({ length: 20 }, (_, id) => kit.locks.tryAcquire(`${id}`, { lease: '1s' }));
      await Promise.allSettled(some);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(attempts).toBeLessThan(50);
  });
});

it('a kit on a client that the app has not connected names connect()', async () => {
  const { ok, error } = await kitForTest({ client: createClient(), commandTimeout: '50ms' }).check();
  expect([ok, error]).toEqual([false, expect.stringContaining('call and await its connect()')]);
});
