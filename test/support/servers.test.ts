import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from './context.ts';
import { withPlainClient } from './plain-client.ts';
import { freePort, type RedisServer, startCluster, startRedis, startSentinel } from './servers.ts';
import { until } from './until.ts';

describeWithServers('a test server', () => {
  it('a test server answers as soon as it has started', async () => {
    const server = await startForTest();
    expect(await ping(server)).toBe('PONG');
  });

  it('a test server listens on the given port', async () => {
    const port = await freePort();
    const server = await startForTest({ port });
    expect(server.url).toBe(`redis://127.0.0.1:${port}`);
    expect(await ping(server)).toBe('PONG');
  });

  it('the error of a test server that cannot start contains the reason', async () => {
    const { port } = await startForTest();
    await expect(startRedis({ port })).rejects.toThrow(/Address already in use/);
    await expect(startRedis({ args: ['--no-such-setting', 'x'] })).rejects.toThrow(/no-such-setting/);
  });

  it('a test server may have a password', async () => {
    const server = await startForTest({ args: ['--requirepass', 'secret'] });
    await expect(ping(server)).rejects.toThrow(/NOAUTH/);
    const url = `redis://:secret@${server.host}:${server.port}`;
    expect(await withPlainClient(url, (client) => client.ping())).toBe('PONG');
  });

  it('a frozen test server answers no commands until it continues', async () => {
    const server = await startForTest();
    await withPlainClient(server.url, async (client) => {
      server.freeze();
      const answer = client.ping();
      expect(await Promise.race([answer, silenceOn(server.port)])).toBe('silence');
      server.thaw();
      expect(await answer).toBe('PONG');
    });
  });

  it('a test server that is killed restarts without data on the same port', async () => {
    const server = await startForTest();
    const firstPid = server.pid;
    await withPlainClient(server.url, async (client) => {
      await client.set('t-key', 'value', { EX: 60 });
      await server.kill();
      await expect(client.ping()).rejects.toThrow();
    });
    await expect(connectionTo(server.port)).rejects.toThrow(/ECONNREFUSED/);
    expect(() => server.freeze()).toThrow(/is not running/);

    await server.restart();
    expect(server.pid).not.toBe(firstPid);
    expect(await withPlainClient(server.url, (client) => client.get('t-key'))).toBeNull();
  });

  it('a test server that is stopped leaves no files behind, even if it was frozen', async () => {
    const server = await startRedis();
    const directory = await directoryOf(server.url);
    server.freeze();
    await server.stop();
    await server.stop();
    await expect(connectionTo(server.port)).rejects.toThrow(/ECONNREFUSED/);
    expect(existsSync(directory)).toBe(false);
    await expect(server.restart()).rejects.toThrow(/stopped for good/);
  });

  it.each(['SIGKILL', 'SIGTERM', 'SIGINT'] as const)(
    'a test server does not outlive a test process that ends by %s, even if the server is frozen',
    async (signal) => {
      const { testProcess, pid, port } = await startInAnotherProcess();
      const directory = await directoryOf(`redis://127.0.0.1:${port}`);
      process.kill(pid, 'SIGSTOP');
      testProcess.kill(signal);
      await once(testProcess, 'close');
      await until('the server and its directory are gone', async () => {
        const isListening = await connectionTo(port).then(Boolean, () => false);
        return !isListening && !existsSync(directory);
      });
    },
  );
});

describeWithServers('a test cluster', () => {
  it('a test cluster has three masters that serve all 16384 slots', async () => {
    const cluster = await startCluster();
    onTestFinished(() => cluster.stop());
    expect(cluster.nodes).toHaveLength(3);
    for (const node of cluster.nodes) {
      const ranges = await withPlainClient(node.server.url, (client) => client.clusterSlots());
      expect(ranges.reduce((slots, range) => slots + range.to - range.from + 1, 0)).toBe(16_384);
      expect(new Set(ranges.map((range) => range.master.port))).toEqual(
        new Set(cluster.nodes.map(({ port }) => port)),
      );
    }
  });

  it('a test cluster works again after a killed node is restarted', async () => {
    const cluster = await startCluster();
    onTestFinished(() => cluster.stop());
    const [first] = cluster.nodes;
    await first?.server.kill();
    await first?.server.restart();
    await until('every node finds every slot served', async () => {
      const states = await Promise.all(
        cluster.nodes.map((node) => withPlainClient(node.server.url, (client) => client.clusterInfo())),
      );
      return states.every((state) => String(state).includes('cluster_state:ok'));
    });
  });

  it('a test cluster has replicas for every master', async () => {
    const cluster = await startCluster({ masters: 3, replicasPerMaster: 1 });
    onTestFinished(() => cluster.stop());
    const roles = await Promise.all(
      cluster.nodes.map((node) => withPlainClient(node.server.url, (client) => client.role())),
    );
    expect(roles.map((answer) => answer?.role)).toEqual([
      'master',
      'master',
      'master',
      'slave',
      'slave',
      'slave',
    ]);
  });
});

describeWithServers('a test Sentinel', () => {
  it('a test Sentinel replaces a killed master, and returns to it by order', async () => {
    const group = await startSentinelForTest();
    const [first, second] = group.servers;
    expect(await group.master()).toBe(first);
    expect(await group.failOver('kill')).toBe(second);
    expect(await roleOf(second)).toBe('master');
    await group.heal();
    expect(await roleOf(first)).toBe('slave');
    expect(await group.failOver('order')).toBe(first);
    expect(await roleOf(first)).toBe('master');
  });

  it('a test Sentinel has several sentinels, replicas and passwords, and replaces a frozen master', async () => {
    const passwords = { password: 'of the data', sentinelPassword: 'of the sentinels' };
    const group = await startSentinelForTest({ sentinels: 3, replicas: 2, ...passwords });
    expect([group.sentinels.length, group.servers.length]).toEqual([3, 3]);
    for (const server of [...group.sentinels, ...group.servers]) {
      await expect(ping(server)).rejects.toThrow('NOAUTH');
    }
    const first = await group.master();
    expect(await group.failOver('freeze')).not.toBe(first);
  });
});

async function startSentinelForTest(options: Parameters<typeof startSentinel>[0] = {}) {
  const group = await startSentinel(options);
  onTestFinished(() => group.stop());
  return group;
}

async function roleOf(server: RedisServer | undefined): Promise<string | undefined> {
  return withPlainClient(String(server?.url), async (client) => (await client.role())?.role);
}

async function startForTest(options: Parameters<typeof startRedis>[0] = {}): Promise<RedisServer> {
  const server = await startRedis(options);
  onTestFinished(() => server.stop());
  return server;
}

function ping(server: RedisServer): Promise<string> {
  return withPlainClient(server.url, (client) => client.ping());
}

async function directoryOf(url: string): Promise<string> {
  const { dir } = await withPlainClient(url, (client) => client.configGet('dir'));
  if (dir === undefined) throw new Error(`${url} has no directory`);
  return dir;
}

async function connectionTo(port: number): Promise<'connected'> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return 'connected';
  } finally {
    socket.destroy();
  }
}

/** The kernel still accepts connections for a stopped process, which then sends nothing. */
async function silenceOn(port: number): Promise<'silence'> {
  const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
  try {
    await once(socket.setTimeout(200), 'timeout');
    return 'silence';
  } finally {
    socket.destroy();
  }
}

/** A process that starts a server and does not stop it. */
async function startInAnotherProcess() {
  const program = `
    import { startRedis } from './test/support/servers.ts';
    const { pid, port } = await startRedis();
    process.send({ pid, port });
    setInterval(() => {}, 60_000);
  `;
  const testProcess = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  onTestFinished(() => {
    testProcess.kill('SIGKILL');
  });
  const [{ pid, port }] = (await once(testProcess, 'message')) as [{ pid: number; port: number }];
  return { testProcess, pid, port };
}
