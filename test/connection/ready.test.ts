import { inspect } from 'node:util';
import express from 'express';
import { createClient } from 'redis';
import { expect, it, onTestFinished } from 'vitest';
import { type BorrowedClient, ConnectionError, type KitOptions } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { freePort, type RedisServer, startRedis } from '../support/servers.ts';
import { keepingLogger } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

async function startForTest(...args: readonly string[]): Promise<RedisServer> {
  const server = await startRedis({ args });
  onTestFinished(() => server.stop());
  return server;
}

describeWithServers('kit.ready()', () => {
  it('ready() resolves with the first connection', async () => {
    const server = await startForTest();
    const kit = kitForTest({ url: server.url });
    await expect(kit.ready()).resolves.toBeUndefined();
    await expect(kit.ready()).resolves.toBeUndefined();
  });

  it('a count of sessions right after the creation of a kit waits for the first connection', async () => {
    const server = await startForTest();
    expect(await kitForTest({ url: server.url }).sessions.count()).toBe(0);
  });

  it('ready() resolves at once on memory:', async () => {
    await expect(kitForTest({ url: 'memory:' }).ready()).resolves.toBeUndefined();
  });

  it('ready() rejects with the reason after 5 s, and a later connection is still used', async () => {
    const port = await freePort();
    const kit = kitForTest({ port });
    const error = await kit.ready().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ConnectionError);
    expect(error).toMatchObject({ code: 'ERR_REDIS_KIT_CONNECTION' });
    expect(String(error)).toMatch(/not ready within 5000 ms: .*ECONNREFUSED/);
    const server = await startRedis({ port });
    onTestFinished(() => server.stop());
    await kit.ready();
    await using lock = await kit.locks.tryAcquire('a');
    expect(lock).not.toBeNull();
  });

  it('the error of ready() says that the password or user name is wrong or missing', async () => {
    const server = await startForTest('--requirepass', 'right');
    const { host, port } = server;
    const failure = (kit: ReturnType<typeof kitForTest>) =>
      kit.ready().then(
        () => 'connected',
        (error: unknown) => String(error),
      );
    const [wrong, missing, unknown] = await Promise.all([
      failure(kitForTest({ url: `redis://:wrong-one@${host}:${port}` })),
      failure(kitForTest({ url: server.url })),
      failure(kitForTest({ host, port, username: 'nobody', password: 'right' })),
    ]);
    expect(wrong).toMatch(/^ConnectionError: .*WRONGPASS/);
    expect(wrong).not.toContain('wrong-one');
    expect(missing).toMatch(/^ConnectionError: .*NOAUTH/);
    expect(unknown).toMatch(/^ConnectionError: .*WRONGPASS/);
  });

  it.each(['a server', 'a cluster', 'a lent client'])(
    'errors and logs hide the password of %s, even if the server repeats the command',
    async (way) => {
      const { host, port } = await startForTest('--requirepass', 'hush', '--rename-command', 'HELLO', '');
      const address = { host, port };
      const logger = keepingLogger();
      const lent = createClient({ socket: address, password: 'hush' });
      const kit = kitForTest({
        logger,
        ...(way === 'a server' ? { ...address, password: 'hush' } : {}),
        ...(way === 'a cluster' ? { cluster: { nodes: [address], password: 'hush' } } : {}),
        ...(way === 'a lent client' ? { client: lent as unknown as BorrowedClient } : {}),
      } as KitOptions);
      const downs = eventsOf(kit, 'connection:down');
      onTestFinished(() => lent.destroy());
      lent.connect().catch(() => undefined);
      await until('the first attempt has failed', () => downs.length > 0);
      const refused = await kit.locks.tryAcquire('a').catch((error: unknown) => error);
      const shown = inspect([downs, refused, logger.lines], { depth: 9 });
      expect(shown).toContain("ERR unknown command 'HELLO'");
      expect(shown).not.toContain('hush');
    },
  );
});

describeWithServers('a connection', () => {
  it('a connection authenticates with a password, or with a user name and password', async () => {
    const server = await startForTest(
      '--requirepass',
      'p/w',
      '--user',
      'app',
      'on',
      '>s3cret',
      '~*',
      '+@all',
    );
    const { host, port } = server;
    await kitForTest({ url: `redis://:p%2Fw@${host}:${port}` }).ready();
    const kit = kitForTest({ host, port, username: 'app', password: 's3cret' });
    await kit.ready();
    const client = kit.client as { sendCommand(command: readonly string[]): Promise<unknown> };
    expect(await client.sendCommand(['ACL', 'WHOAMI'])).toBe('app');
  });

  it('a connection uses the database of its URL or of the option `db`', async () => {
    const server = await startForTest();
    const prefix = testPrefix();
    for (const kit of [
      kitForTest({ url: `${server.url}/3`, prefix }),
      kitForTest({ ...server, db: 3, prefix }),
    ]) {
      const lock = await kit.locks.tryAcquire('a');
      expect(lock).not.toBeNull();
      await withPlainClient(server.url, async (client) => {
        expect(await client.dbSize()).toBe(0);
        await client.select(3);
        expect(await client.exists(`${prefix}:lock:{a}`)).toBe(1);
      });
      await lock?.release();
    }
  });

  it('requests that arrive before the first connection wait for it', async () => {
    const server = await startForTest();
    const app = express();
    const address = await serve(app);
    const kit = kitForTest({ url: server.url, commandTimeout: '5s' });
    app.use(kit.rateLimit({ algorithm: 'sliding-window', limit: 100, window: '1m' }));
    app.get('/', kit.lock({ key: (req) => String(req.query.id) }), (req, res) => {
      res.json({ degraded: req.rateLimit?.degraded });
    });
    const early = kit.locks.tryAcquire('early');
    const answers = await Promise.all([1, 2, 3].map((id) => send(`${address}/?id=${id}`)));
    for (const answer of answers) {
      expect(answer.status).toBe(200);
      expect(answer.text).toBe('{"degraded":false}');
    }
    await expect(early).resolves.not.toBeNull();
  });

  it('a namespace shares the connection of its kit, has its own key prefix, and does not close the connection', async () => {
    const server = await startForTest();
    const kit = kitForTest({ url: server.url, prefix: 't-app' });
    const tenant = kit.namespace('tenant-7');
    expect(tenant.prefix).toBe('t-app:tenant-7');
    expect(tenant.client).toBe(kit.client);
    await using outer = await kit.locks.tryAcquire('a');
    await using inner = await tenant.locks.tryAcquire('a');
    expect([outer === null, inner === null]).toEqual([false, false]);
    await withPlainClient(server.url, async (client) => {
      expect(await client.exists(['t-app:lock:{a}', 't-app:tenant-7:lock:{a}'])).toBe(2);
      const connections = Number((await client.info('clients')).match(/connected_clients:(\d+)/)?.[1]);
      expect(connections, 'ours and the one that asks').toBe(2);
    });
    await tenant.close();
    await expect(kit.locks.tryAcquire('b')).resolves.not.toBeNull();
    await expect(tenant.locks.tryAcquire('b')).resolves.not.toBeNull();
    await kit.close();
    await expect(tenant.locks.tryAcquire('c')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CLOSED' });
  });
});
