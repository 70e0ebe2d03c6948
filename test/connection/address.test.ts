import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { KitOptions, RedisKit } from '../../src/index.ts';
import { clusterNodes, describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { keepingLogger } from '../support/stores.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';

const HAS_IPV6 = Object.values(networkInterfaces()).some((all) =>
  all?.some(({ address }) => address === '::1'),
);

/** Each character that a URL reserves, and a percent sign that is no escape. */
const PASSWORD = 'p@ss:/?#[]%41 "\\ü';

/** Resolves to the ACL user of the kit's connection. */
async function userOf(kit: RedisKit): Promise<string> {
  await kit.ready();
  return String(
    await (kit.client as { sendCommand(command: string[]): Promise<unknown> }).sendCommand(['ACL', 'WHOAMI']),
  );
}

/** The values of a field of CLIENT LIST, for each connection. */
async function clientField(url: string, field: string): Promise<readonly string[]> {
  const list = String(await withPlainClient(url, (client) => client.sendCommand(['CLIENT', 'LIST'])));
  return list
    .trim()
    .split('\n')
    .map((line) => new RegExp(` ${field}=(\\S*)`).exec(line)?.[1] ?? '');
}

/** Resolves to the error with which the kit reports that it is not connected. */
async function nextDown(kit: RedisKit): Promise<Error> {
  const downs = eventsOf(kit, 'connection:down');
  await until('the attempt fails', () => downs.length > 0);
  return downs[0]?.error ?? new Error('no error');
}

describeWithServers('the address of a Redis server', () => {
  let server: RedisServer;
  let directory: string;
  let socket: string;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'redis-kit-test-socket-'));
    socket = join(directory, 'redis sock');
    const bind = HAS_IPV6 ? ['--bind', '127.0.0.1', '::1'] : [];
    server = await startRedis({ args: ['--unixsocket', socket, ...bind] });
    await withPlainClient(server.url, async (client) => {
      const rights = ['on', '~*', '&*', '+@all'];
      await client.sendCommand(['ACL', 'SETUSER', 'ann', ...rights, `>${PASSWORD}`]);
      await client.sendCommand(['ACL', 'SETUSER', 'guest', ...rights, 'nopass']);
    });
  });
  afterAll(async () => {
    await server.stop();
    rmSync(directory, { recursive: true });
  });

  const credentials = `ann:${encodeURIComponent(PASSWORD)}@`;

  it.each<[string, () => KitOptions, string, number]>([
    ['a unix: URL', () => ({ url: `unix://${encodeURI(socket)}?db=2` }), 'default', 2],
    ['a unix: URL with credentials', () => ({ url: `unix://${credentials}${encodeURI(socket)}` }), 'ann', 0],
    ['the option path', () => ({ path: socket, db: 3, username: 'ann', password: PASSWORD }), 'ann', 3],
    ['an encoded URL', () => ({ url: `redis://${credentials}127.0.0.1:${server.port}/1` }), 'ann', 1],
    [
      'options beside a URL',
      () => ({ url: server.url, username: 'ann', password: PASSWORD, db: 4 }),
      'ann',
      4,
    ],
    ['a user without a password', () => ({ url: server.url.replace('//', '//guest@') }), 'guest', 0],
    ['family 4', () => ({ host: 'localhost', port: server.port, family: 4, username: 'guest' }), 'guest', 0],
  ])(
    '%s leads to the server, as the user and to the database that it names',
    async (_, options, user, db) => {
      const kit = kitForTest(options());
      expect(await userOf(kit)).toBe(user);
      expect(await clientField(server.url, 'name')).toContain(kit.prefix);
      const list = String(
        await withPlainClient(server.url, (client) => client.sendCommand(['CLIENT', 'LIST'])),
      );
      expect(list.split('\n').find((line) => line.includes(` name=${kit.prefix} `))).toContain(` db=${db} `);
    },
  );

  it.skipIf(!HAS_IPV6)(
    `an IPv6 address is a host, with or without brackets${HAS_IPV6 ? '' : ' (left out: this machine has no IPv6)'}`,
    async () => {
      for (const options of [
        { url: `redis://[::1]:${server.port}` },
        { host: '::1', port: server.port },
        { host: '[::1]', port: server.port, family: 6 as const },
      ]) {
        await kitForTest(options).ready();
      }
    },
  );

  it('a password without a user name belongs to the default user', async () => {
    const secured = await startRedis({ args: ['--requirepass', 'a/b'] });
    onTestFinished(() => secured.stop());
    const kit = kitForTest({ url: `redis://:${encodeURIComponent('a/b')}@127.0.0.1:${secured.port}` });
    expect(await userOf(kit)).toBe('default');
    const error = await nextDown(kitForTest({ url: secured.url }));
    expect(error.message).toMatch(/^Redis cannot be reached: NOAUTH .*; set `password`$/);
  });

  it('a wrong user or password is reported with a remedy, and without the password', async () => {
    const kit = kitForTest({ url: server.url.replace('//', '//guess:hush@') });
    const error = await nextDown(kit);
    expect(error.message).toMatch(
      /WRONGPASS .*; check `username` and `password`; .*redis:\/\/:password@host/,
    );
    expect(inspect(error, { depth: Number.POSITIVE_INFINITY })).not.toContain('hush');
  });

  it('CLIENT LIST shows clientName, or else the prefix, for commands and for the subscriber', async () => {
    const names = [testPrefix(), testPrefix()];
    for (const [index, options] of [{ prefix: names[0] }, { clientName: names[1] }].entries()) {
      const kit = kitForTest({ url: server.url, ...options });
      const lock = await kit.locks.acquire('a');
      const waiting = kit.locks.acquire('a', { wait: '10s' });
      await until('both connections have the name', async () => {
        const all = await clientField(server.url, 'name');
        return all.filter((name) => name === names[index]).length === 2;
      });
      await lock.release();
      await (await waiting).release();
    }
  });

  it('neither a kit nor its errors show a password', async () => {
    const shown: unknown[] = [];
    const cluster = { nodes: clusterNodes(), username: 'hush', password: 'hush' };
    const url = server.url.replace('//', '//hush:hush@');
    for (const options of [
      { url },
      { cluster },
      { url: server.url, username: 'guess', password: () => 'hush' },
    ]) {
      const kit = kitForTest({ ...options, logger: keepingLogger() });
      shown.push(kit, await nextDown(kit), await kit.locks.tryAcquire('a').catch((error: unknown) => error));
    }
    const text = inspect(shown, { depth: Number.POSITIVE_INFINITY, showHidden: true, maxArrayLength: null });
    expect(text).toContain('WRONGPASS');
    // Functions show their names only.
    expect(text).not.toContain("'hush'");
  });
});

describeWithServers('a password from a function', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis();
    await setPassword('one');
  });
  afterAll(() => server.stop());

  function setPassword(password: string): Promise<unknown> {
    return withPlainClient(server.url, (client) =>
      client.sendCommand(['ACL', 'SETUSER', 'app', 'reset', 'on', '~*', '&*', '+@all', `>${password}`]),
    );
  }

  it('each new socket, for commands and for the subscriber, asks for the password again', async () => {
    await setPassword('one');
    let password = 'one';
    let calls = 0;
    const kit = kitForTest({
      url: server.url,
      username: 'app',
      password: async () => {
        calls++;
        return password;
      },
    });
    const exchange = async () => {
      const lock = await kit.locks.acquire('a');
      const next = kit.locks.acquire('a', { wait: '10s' });
      await until('it waits', async () => (await kit.locks.inspect('a')).waiters === 1);
      await lock.release();
      await (await next).release();
    };
    await exchange();
    expect(calls).toBe(2);
    password = 'two';
    await setPassword('two');
    await withPlainClient(server.url, (client) => client.sendCommand(['CLIENT', 'KILL', 'USER', 'app']));
    await until('the kit is connected again', () =>
      kit.ready().then(
        () => calls >= 4,
        () => false,
      ),
    );
    await exchange();
  });

  it.each<[string, () => unknown, RegExp]>([
    [
      'throws',
      () => {
        throw new Error('no token');
      },
      /failed: no token/,
    ],
    ['rejects', () => Promise.reject(new Error('no token')), /failed: no token/],
    ['rejects with its token', () => Promise.reject('hush'), /failed: it threw a value of type string/],
    ['returns nothing', () => undefined, /returned a value of type undefined; it must return a string/],
    ['returns an empty string', () => '', /returned an empty string; it must return a string/],
    [
      'resolves to an object',
      async () => ({ token: 'hush' }),
      /returned a value of type object; it must return a string/,
    ],
  ])(
    'a password function that %s is reported, and called again at the next attempt',
    async (_, first, message) => {
      await setPassword('one');
      let calls = 0;
      const password = () => (++calls === 1 ? first() : 'one');
      const kit = kitForTest({ url: server.url, username: 'app', password: password as () => string });
      const error = await nextDown(kit);
      expect(error.message).toMatch(message);
      expect(error.message).toContain('Redis cannot be reached: the function `password` ');
      expect(error.message).not.toContain('hush');
      await kit.ready();
      expect(calls).toBe(2);
    },
  );

  it('a password function that hangs is given up after 4 seconds, and called again', async () => {
    await setPassword('one');
    stopTime();
    let calls = 0;
    const password = () => (++calls === 1 ? new Promise<string>(() => undefined) : 'one');
    const kit = kitForTest({ url: server.url, username: 'app', password });
    const ups = eventsOf(kit, 'connection:up');
    const down = nextDown(kit);
    await until('the function is called', () => calls === 1);
    await passTime(4_000);
    expect((await down).message).toContain('the function `password` did not return within 4000 ms');
    await until('the kit is connected', () => ups.length > 0);
    expect(calls).toBe(2);
  });

  it('a wrong token is asked for again at the next attempt', async () => {
    await setPassword('one');
    let calls = 0;
    const kit = kitForTest({
      url: server.url,
      username: 'app',
      password: () => (++calls === 1 ? 'old' : 'one'),
    });
    expect((await nextDown(kit)).message).toContain('WRONGPASS');
    await kit.ready();
  });
});

describeWithServers('a URL of a cluster node', () => {
  it('a MOVED reply is explained by the need for the option cluster, and logged once', async () => {
    const [node] = clusterNodes();
    const logger = keepingLogger();
    const kit = kitForTest({ url: `redis://${node?.host}:${node?.port}`, logger });
    const errors = eventsOf(kit, 'error');
    const outcomes = await Promise.allSettled(
      Array.from({ length: 24 }, (_, id) => kit.locks.tryAcquire(`id-${id}`).then((lock) => lock?.release())),
    );
    const failures = outcomes.filter(({ status }) => status === 'rejected');
    expect(failures.length).toBeGreaterThan(0);
    expect(failures.length).toBeLessThan(outcomes.length);
    const explained =
      /MOVED \d+ \S+ \(this Redis is a node of a cluster, .*connect with the option `cluster`/;
    for (const failure of failures as PromiseRejectedResult[]) {
      expect(failure.reason).toMatchObject({ code: 'ERR_REDIS_KIT_REPLY', status: 503 });
      expect(String(failure.reason.message)).toMatch(explained);
    }
    expect(errors.filter(({ feature }) => feature === 'connection')).toHaveLength(1);
    expect(logger.lines.filter((line) => explained.test(line))).toHaveLength(1);
  });
});

describe('a port that accepts connections and never answers', () => {
  it('the error of ready() says that TLS may be missing', async () => {
    const silent = createServer().listen(0, '127.0.0.1');
    await once(silent, 'listening');
    onTestFinished(() => void silent.close());
    const { port } = silent.address() as { port: number };
    const kit = kitForTest({ url: `rediss://127.0.0.1:${port}` });
    await expect(kit.ready()).rejects.toThrow(/within 5000 ms: Connection timeout; .*the server speaks TLS/);
  });
});
