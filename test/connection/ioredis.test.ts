import { inspect } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { IOREDIS_NAMES, type IoredisName, ioredisForTest } from '../support/clients.ts';
import { describeWithServers, redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startProxy } from '../support/proxy.ts';
import { listenersAt, startServerForTest } from '../support/pub-sub.ts';
import { keepingLogger } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { countCommands } from '../support/wire.ts';

const POLICY = { algorithm: 'sliding-window', limit: 100, window: '1h' } as const;

function sharedAddress() {
  const { hostname, port } = new URL(redisUrl());
  return { host: hostname, port: Number(port) };
}

/** Acquires and releases a lock, so that commands and binary replies are exchanged. */
async function use(kit: ReturnType<typeof kitForTest>): Promise<void> {
  const lock = await kit.locks.tryAcquire('borrowed');
  expect(lock?.fence).toBeGreaterThan(0);
  expect(await lock?.release()).toBe(true);
}

function promisesOf(name: IoredisName): void {
  it.each([
    ['without options', {}],
    ['with integers as strings', { stringNumbers: true }],
    ['with automatic pipelines', { enableAutoPipelining: true }],
    ['without an offline queue', { enableOfflineQueue: false }],
    ['without a limit of retries', { maxRetriesPerRequest: null }],
    ['with a database', { db: 3 }],
  ])('a client %s may be borrowed', async (_, options) => {
    const client = ioredisForTest(name, sharedAddress(), options);
    const kit = kitForTest({ client });
    expect(kit.client).toBe(client);
    await kit.ready();
    await use(kit);
    expect(await kit.limiter(POLICY).consume('a')).toMatchObject({ allowed: true, remaining: 99 });
    const waiting = await kit.locks.acquire('contended');
    const next = kit.locks.acquire('contended', { wait: '1m' });
    await until('it waits', async () => (await kit.locks.inspect('contended')).waiters === 1);
    await waiting.release();
    await (await next).release();
    await kit.close();
    expect(client.status).toBe('ready');
    expect(await client.get('no such key')).toBeNull();
  });

  it('a client with `lazyConnect` is connected by the first use of the kit and not by its creation', async () => {
    const client = ioredisForTest(name, sharedAddress(), { lazyConnect: true });
    const kit = kitForTest({ client });
    await new Promise(setImmediate);
    expect(client.status).toBe('wait');
    await use(kit);
    const other = ioredisForTest(name, sharedAddress(), { lazyConnect: true });
    const ready = kitForTest({ client: other }).ready();
    await ready;
    expect(other.status).toBe('ready');
  });

  it('a client with `lazyConnect` may be connected by the app after the kit was created', async () => {
    const client = ioredisForTest(name, sharedAddress(), { lazyConnect: true });
    const kit = kitForTest({ client });
    await client.connect();
    await use(kit);
  });

  it('a limiter sends the takes of one turn of the event loop as one command', async () => {
    const server = await startServerForTest();
    const client = ioredisForTest(name, server);
    const kit = kitForTest({ client });
    await kit.ready();
    const limiter = kit.limiter(POLICY);
    await limiter.consume('a');
    const commands = await countCommands(server.url, () =>
      Promise.all(Array.from({ length: 10 }, () => limiter.consume('a'))),
    );
    expect(commands.filter(([command]) => command === 'EVALSHA')).toHaveLength(1);
  });

  it('a command whose reply is lost runs once, although the client sends commands again', async () => {
    const server = await startServerForTest();
    const proxy = await startProxy(server);
    const { port } = new URL(proxy.url);
    const client = ioredisForTest(name, { host: '127.0.0.1', port: Number(port) });
    const kit = kitForTest({ client });
    await use(kit);
    const commands = await countCommands(server.url, async () => {
      proxy.loseNextReply();
      const [lost, own] = await Promise.allSettled([kit.locks.tryAcquire('a'), client.incr('outside-app')]);
      expect(lost).toMatchObject({ reason: { code: 'ERR_REDIS_KIT_CONNECTION' } });
      expect(own, 'the client has sent the command of the app again').toMatchObject({ value: 2 });
      await kit.ready();
    });
    expect(commands.filter(([command]) => command === 'INCR')).toHaveLength(2);
    // The kit releases a lock that may have been acquired, by another script.
    const digests = commands.filter(([command]) => command === 'EVALSHA').map(([, digest]) => digest);
    expect(digests.length).toBeGreaterThan(0);
    expect(new Set(digests).size).toBe(digests.length);
  });

  it('the `commandTimeout` of a client does not apply to the kit', async () => {
    const proxy = await startProxy(sharedAddress());
    const { hostname, port } = new URL(proxy.url);
    const client = ioredisForTest(name, { host: hostname, port: Number(port) }, { commandTimeout: 100 });
    const kit = kitForTest({ client });
    await use(kit);
    proxy.delayReplies(300);
    const [own, lock] = await Promise.allSettled([client.get('a'), kit.locks.tryAcquire('a')]);
    expect([own.status, lock.status]).toEqual(['rejected', 'fulfilled']);
  });

  it('an error of a failed command contains no arguments', async () => {
    const server = await startServerForTest();
    const client = ioredisForTest(name, server);
    const kit = kitForTest({ client });
    await kit.ready();
    await withPlainClient(server.url, (plain) =>
      plain.sendCommand([
        'ACL',
        'SETUSER',
        'default',
        '-@all',
        '+info',
        '+client',
        '+hello',
        '+config',
        '+debug',
      ]),
    );
    const error = await kit.locks.tryAcquire('a secret id').catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'ERR_REDIS_KIT_REPLY' });
    expect(inspect(error, { depth: 10 })).not.toMatch(/secret|command:/);
  });

  it('kits follow the outage of a server that is killed, and its restart', async () => {
    const server = await startServerForTest();
    const client = ioredisForTest(name, server);
    const kit = kitForTest({ client });
    const downs = eventsOf(kit, 'connection:down');
    const ups = eventsOf(kit, 'connection:up');
    await use(kit);
    await server.kill();
    await until('the loss is noticed', () => downs.length === 1);
    expect(downs[0]?.error.message).toContain('ECONNREFUSED');
    const started = performance.now();
    await expect(kit.locks.tryAcquire('a')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONNECTION' });
    expect(performance.now() - started, 'without waiting for the deadline').toBeLessThan(5_000);
    await server.restart();
    await kit.ready();
    await use(kit);
    expect(ups).toHaveLength(2);
  });

  it('a frozen server opens the breaker until it continues', async () => {
    const server = await startServerForTest();
    const client = ioredisForTest(name, server);
    const kit = kitForTest({ client, commandTimeout: '300ms' });
    const breaker = eventsOf(kit, 'connection:breaker');
    await use(kit);
    server.freeze();
    await Promise.allSettled([1, 2, 3].map((id) => kit.locks.tryAcquire(`${id}`)));
    await expect(kit.locks.tryAcquire('a')).rejects.toThrow('does not answer; nothing is sent');
    server.thaw();
    await until('it works', () =>
      use(kit).then(
        () => true,
        () => false,
      ),
    );
    expect(breaker.map(({ state }) => state)).toEqual(['open', 'closed']);
  });

  it('a subscriber connection is replaced when it is lost, and closed with the kit', async () => {
    const server = await startServerForTest();
    const client = ioredisForTest(name, server);
    const kit = kitForTest({ client });
    for (let loss = 0; loss < 2; loss++) {
      const held = await kit.locks.acquire('a');
      const next = kit.locks.acquire('a', { wait: '1m' });
      await until('it waits', async () => (await kit.locks.inspect('a')).waiters === 1);
      await until('one subscriber listens', async () => (await listenersAt(server.url)).length === 1);
      await held.release();
      await (await next).release();
      await withPlainClient(server.url, (plain) => plain.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub']));
    }
    await until('it is connected again', async () => (await listenersAt(server.url)).length === 1);
    await kit.close();
    await until('it is closed', async () => (await listenersAt(server.url)).length === 0);
    expect(client.status).toBe('ready');
  });

  it('a client that the app disconnects rejects at once', async () => {
    const client = ioredisForTest(name, sharedAddress());
    const kit = kitForTest({ client });
    await use(kit);
    client.disconnect();
    await until('it has ended', () => client.status === 'end');
    await expect(kit.locks.tryAcquire('a')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONNECTION' });
    await client.connect();
    await use(kit);
  });

  it('a client that enters subscriber mode is reported as the cause', async () => {
    const client = ioredisForTest(name, sharedAddress(), { protocol: 2 } as object);
    const kit = kitForTest({ client });
    await use(kit);
    await client.subscribe('outside-channel');
    await expect(kit.locks.tryAcquire('a')).rejects.toThrow('subscriber mode');
  });

  it('a client that sends commands again gets one warning, which names the option', async () => {
    const client = ioredisForTest(name, sharedAddress());
    const logger = keepingLogger();
    for (let kits = 0; kits < 2; kits++) kitForTest({ client, logger });
    expect(logger.lines.filter((line) => line.includes('autoResendUnfulfilledCommands: false'))).toHaveLength(
      1,
    );
    const safe = ioredisForTest(name, sharedAddress(), { autoResendUnfulfilledCommands: false });
    const quiet = keepingLogger();
    kitForTest({ client: safe, logger: quiet });
    expect(quiet.lines).toEqual([]);
  });

  it('a client that 30 kits borrow causes no listener warning, and has its own listeners afterwards', async () => {
    const client = ioredisForTest(name, sharedAddress());
    const warnings: string[] = [];
    const note = ({ message }: Error) => void warnings.push(message);
    process.on('warning', note);
    onTestFinished(() => void process.off('warning', note));
    for (let own = 0; own < 9; own++) client.on('error', () => undefined);
    await until('it is connected', () => client.status === 'ready');
    const count = () =>
      ['ready', 'close', 'end', 'error', 'reconnecting'].map((event) => listenerCount(client, event));
    const before = count();
    const kits = Array.from({ length: 30 }, () => kitForTest({ client }));
    await Promise.all(kits.map((kit) => use(kit).then(() => kit.close())));
    await new Promise(setImmediate);
    expect(warnings).toEqual([]);
    expect(count()).toEqual(before);
  });
}

function listenerCount(client: object, event: string): number {
  return (client as NodeJS.EventEmitter).listenerCount(event);
}

describeWithServers('a borrowed client of ioredis or iovalkey', () => {
  describe.each(IOREDIS_NAMES)('a client of %s', promisesOf);
});
