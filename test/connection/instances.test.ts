import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { Emitter } from '../../src/base/emitter.ts';
import type { KitEvents } from '../../src/base/events.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { openTransport } from '../../src/connection/connect.ts';
import { Connection } from '../../src/connection/connection.ts';
import {
  ConfigError,
  type ConnectionOptions,
  createRedisKit,
  type KitOptions,
  registerRedis,
} from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { publisherFor, receivesAgain, recordChannel } from '../support/pub-sub.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';

/** A name that no other test uses. */
function register(connection: ConnectionOptions): string {
  const name = testPrefix();
  registerRedis(name, connection);
  return name;
}

describeWithServers('kits on one instance', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(() => server.stop());

  /** The connections with this name, as CLIENT LIST shows them: `P` for a subscriber, `N` for commands. */
  async function connectionsOf(name: string): Promise<readonly string[]> {
    const list = String(
      await withPlainClient(server.url, (client) => client.sendCommand(['CLIENT', 'LIST'])),
    );
    return list
      .split('\n')
      .filter((line) => line.includes(` name=${name} `))
      .map((line) => / flags=(\S+)/.exec(line)?.[1] ?? '')
      .sort();
  }

  const haveConnections = (name: string, ...kinds: string[]) =>
    until(`${name} has the connections ${kinds}`, async () => {
      const found = await connectionsOf(name);
      return found.length === kinds.length && found.every((kind, at) => kind === kinds[at]);
    });

  it('kits share one connection for commands and one subscriber, which the last kit closes', async () => {
    const name = register({ url: server.url });
    expect(await connectionsOf(name)).toEqual([]);
    const kits = ['a', 'b', 'c'].map(() => kitForTest({ instance: name }));
    for (const kit of kits) {
      const lock = await kit.locks.acquire('x');
      const next = kit.locks.acquire('x', { wait: '10s' });
      await until('it waits', async () => (await kit.locks.inspect('x')).waiters === 1);
      await lock.release();
      await (await next).release();
    }
    await haveConnections(name, 'N', 'P');
    expect(new Set(kits.map(({ client }) => client)).size).toBe(1);
    await kits[0]?.close();
    await kits[1]?.namespace('n').close();
    await kits[1]?.close();
    await haveConnections(name, 'N', 'P');
    await expect(kits[1]?.locks.tryAcquire('x')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CLOSED' });
    expect(await kits[2]?.namespace('n').locks.tryAcquire('x')).not.toBeNull();
    await kits[2]?.close();
    await haveConnections(name);
    expect(await kitForTest({ instance: name }).locks.tryAcquire('x')).not.toBeNull();
    await haveConnections(name, 'N');
  });

  it('the name of an instance is its name in CLIENT LIST, unless it has a clientName', async () => {
    const clientName = testPrefix();
    await kitForTest({ instance: register({ url: server.url, clientName }) }).ready();
    await haveConnections(clientName, 'N');
  });

  it('each kit keeps its own prefix, and a kit that is closed twice leaves once', async () => {
    const name = register({ url: server.url });
    const [one, other] = [kitForTest({ instance: name }), kitForTest({ instance: name })];
    expect(await one.locks.tryAcquire('x')).not.toBeNull();
    expect(await other.locks.tryAcquire('x')).not.toBeNull();
    await one.close();
    await one.close();
    expect(await other.locks.tryAcquire('y')).not.toBeNull();
  });

  it('connection events reach each kit, also a kit that joins an open connection', async () => {
    const own = await startRedis();
    onTestFinished(() => own.stop());
    const name = register({ url: own.url });
    const first = kitForTest({ instance: name });
    await first.ready();
    const kits = [first, kitForTest({ instance: name })];
    const ups = kits.map((kit) => eventsOf(kit, 'connection:up'));
    const downs = kits.map((kit) => eventsOf(kit, 'connection:down'));
    await until('the second kit is up', () => ups[1]?.length === 1);
    await own.kill();
    await until('both are down', () => downs.every((events) => events.length === 1));
    await own.restart();
    await until('both are up', () => ups[0]?.length === 1 && ups[1]?.length === 2);
    expect(downs.map((events) => events.length)).toEqual([1, 1]);
  });

  it('each kit has its own deadline and circuit breaker on a connection that they share', async () => {
    const own = await startRedis();
    onTestFinished(() => own.stop());
    const name = register({ url: own.url });
    const hasty = kitForTest({ instance: name, commandTimeout: 100 });
    const patient = kitForTest({ instance: name, commandTimeout: '60s' });
    await Promise.all([hasty.ready(), patient.ready()]);
    const breakers = [hasty, patient].map((kit) => eventsOf(kit, 'connection:breaker'));
    own.freeze();
    const waiting = patient.locks.tryAcquire('a');
    await until('the breaker of the hasty kit opens', async () => {
      await expect(hasty.locks.tryAcquire('a')).rejects.toMatchObject({
        name: expect.stringMatching(/Error$/),
      });
      return breakers[0]?.length === 1;
    });
    own.thaw();
    expect(await waiting).not.toBeNull();
    expect(await patient.locks.tryAcquire('b')).not.toBeNull();
    expect(breakers[1]).toEqual([]);
    await until('the hasty kit recovers', () =>
      hasty.locks.tryAcquire(`${Math.random()}`).then(
        () => true,
        () => false,
      ),
    );
  });

  it('a connection that closes ends its own subscriptions, and those of others continue', async () => {
    const transport = openTransport({
      kind: 'standalone',
      host: server.host,
      port: server.port,
      username: undefined,
      password: undefined,
      db: 0,
      tls: false,
      family: 0,
      clientName: 'test',
    });
    const open = () => new Connection(transport, new Emitter<KitEvents>(silentLogger), 10_000);
    const [one, other] = [open(), open()];
    onTestFinished(() => other.close(0));
    const recorders = [one, other].map(({ pubSub }) => recordChannel(pubSub, 'a'));
    await until('both are up', () => recorders.every(({ isUp }) => isUp));
    await one.close(1_000);
    expect(recorders.map(({ changes }) => changes)).toEqual([[true, false], [true]]);
    const [closed, open_] = recorders;
    if (open_ !== undefined) await receivesAgain(open_, await publisherFor(server), 'a');
    expect(closed?.messages).toEqual([]);
  });

  it('kits on an instance with a borrowed client leave the client open', async () => {
    await withPlainClient(server.url, async (client) => {
      const name = register({ client });
      for (let round = 0; round < 2; round++) {
        const kit = kitForTest({ instance: name });
        const lock = await kit.locks.acquire('x');
        await lock.release();
        await kit.close();
        expect(client.isReady).toBe(true);
      }
    });
  });
});

describe('kits on a memory: instance', () => {
  it('kits on a memory: instance share their data, which the last kit drops', async () => {
    const options = { instance: register({ url: 'memory:' }), prefix: testPrefix() };
    const [one, other] = [kitForTest(options), kitForTest(options)];
    expect(one.client).toBeNull();
    const lock = await one.locks.acquire('x');
    expect(await other.locks.tryAcquire('x')).toBeNull();
    const next = other.locks.acquire('x', { wait: '10s' });
    await lock.release();
    await next;
    await one.close();
    expect(await other.locks.tryAcquire('x')).toBeNull();
    await other.close({ timeout: 1 });
    expect(await kitForTest(options).locks.tryAcquire('x')).not.toBeNull();
  });

  it('kits on a memory: instance share a clock', () => {
    const clock = { now: () => 0 };
    const instance = register({ url: 'memory:' });
    kitForTest({ instance, clock });
    kitForTest({ instance, clock });
    expect(() => kitForTest({ instance })).toThrow(/option `clock` differs from that of the other kits/);
  });

  it('a memory: instance in production is warned about', () => {
    const { NODE_ENV } = process.env;
    onTestFinished(() => {
      process.env.NODE_ENV = NODE_ENV;
    });
    process.env.NODE_ENV = 'production';
    const lines: string[] = [];
    const keep = (line: string) => void lines.push(line);
    const logger = { debug: keep, info: keep, warn: keep, error: keep };
    kitForTest({ instance: register({ url: 'memory:' }), logger });
    expect(lines.join()).toContain("createRedisKit runs on 'memory:' with NODE_ENV=production");
  });
});

describe('the name of an instance', () => {
  it('the error for an unknown name suggests a registered one', () => {
    registerRedis('sessions', { url: 'memory:' });
    const create = (instance: string) => () => createRedisKit({ instance });
    expect(create('session')).toThrow(
      /`instance` is 'session'; it is not registered; did you mean `sessions`\?/,
    );
    expect(create('x')).toThrow(/known instances: .*sessions/);
    expect(create('')).toThrow(/`instance` is ''; it must be a string/);
    expect(create('__proto__')).toThrow(/is not registered/);
  });

  it.each<[KitOptions, string]>([
    [{ instance: 'main', url: 'memory:' }, 'options `url` and `instance` both say where Redis is'],
    [{ instance: 'main', host: 'h' }, 'options `instance` and `host` both say where Redis is'],
    [{ instance: 'main', cluster: { nodes: ['a'] } }, 'options `cluster` and `instance` both'],
    [{ instance: 'main', db: 1 }, 'option `db` is not usable; put it in registerRedis()'],
    [{ instance: 'main', password: 'hush' }, 'option `password` is not usable; put it in registerRedis()'],
    [{ instance: 'main', clientName: 'x' }, 'option `clientName` is not usable; put it in registerRedis()'],
  ])('a part of the connection is refused beside the name of an instance: %j', (options, message) => {
    registerRedis('main', { url: 'memory:' });
    expect(() => createRedisKit(options)).toThrow(message);
    expect(() => createRedisKit(options)).not.toThrow('hush');
  });

  it.each<[string, unknown, RegExp]>([
    ['', { url: 'memory:' }, /^registerRedis: the name is ''; it must be/],
    ['two words', { url: 'memory:' }, /^registerRedis: the name is 'two words'/],
    [
      'a',
      { instance: 'b' },
      /^registerRedis: option `instance` is 'b'; an instance needs a connection of its own/,
    ],
    ['a', { url: 'http://x' }, /^registerRedis: option `url` is with the scheme 'http:'/],
    ['a', { uri: 'redis://x' }, /^registerRedis: unknown option `uri`; it is `url` here/],
    ['a', { url: 'memory:', prefix: 'x' }, /^registerRedis: unknown option `prefix`/],
    ['a', { cluster: { nodes: [] } }, /^registerRedis\(\{ cluster \}\): option `nodes`/],
    ['a', 'redis://x', /^registerRedis: options must be an object/],
  ])('an invalid registration is refused: %j, %j', (name, connection, message) => {
    expect(() => registerRedis(name, connection as ConnectionOptions)).toThrow(message);
    expect(() => registerRedis(name, connection as ConnectionOptions)).toThrow(ConfigError);
  });

  it('a name can be registered again, but not while a kit uses it', async () => {
    const name = register({ url: 'redis://nowhere.invalid' });
    registerRedis(name, { url: 'memory:' });
    const kit = kitForTest({ instance: name });
    expect(kit.client).toBeNull();
    expect(() => registerRedis(name, { url: 'memory:' })).toThrow(/is in use by a kit; close its kits first/);
    await kit.close();
    registerRedis(name, { url: 'memory:' });
  });
});
