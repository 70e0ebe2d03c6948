import { expect, it, onTestFinished } from 'vitest';
import { createRedisKit } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startProgram } from '../support/program.ts';
import { freePort, type RedisServer, startCluster, startRedis } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';

const CLOSED = { name: 'StoreError', code: 'ERR_REDIS_KIT_CLOSED' };

async function startForTest(): Promise<RedisServer> {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  return server;
}

describeWithServers('kit.close()', () => {
  it('close() may be called twice, even at the same time', async () => {
    const server = await startForTest();
    const kit = createRedisKit({ url: server.url, logger: false });
    await kit.ready();
    await Promise.all([kit.close(), kit.close()]);
    await kit.close({ timeout: '1s' });
  });

  it('close() disconnects the client that the kit created', async () => {
    const server = await startForTest();
    const kit = createRedisKit({ url: server.url, logger: false });
    await kit.ready();
    await kit.close();
    await until('only the one who asks is connected', () =>
      withPlainClient(server.url, async (client) =>
        (await client.info('clients')).includes('connected_clients:1\r'),
      ),
    );
  });

  it('close() waits for commands in flight and rejects later commands', async () => {
    const server = await startForTest();
    const kit = createRedisKit({ url: server.url, logger: false, prefix: 't-close' });
    await kit.ready();
    const inFlight = Array.from({ length: 50 }, (_, id) => kit.locks.tryAcquire(`${id}`, { renew: false }));
    const closed = kit.close();
    await expect(kit.locks.tryAcquire('late')).rejects.toMatchObject(CLOSED);
    const locks = await Promise.all(inFlight);
    expect(locks.filter((lock) => lock !== null)).toHaveLength(50);
    await closed;
    await expect(kit.locks.tryAcquire('later')).rejects.toMatchObject(CLOSED);
    await expect(kit.ready()).rejects.toMatchObject(CLOSED);
  });

  it('close() waits no longer than its timeout for a Redis that does not answer', async () => {
    const server = await startForTest();
    const kit = createRedisKit({ url: server.url, logger: false, commandTimeout: '10s' });
    await kit.ready();
    server.freeze();
    const inFlight = kit.locks.tryAcquire('a');
    const elapsedMs = stopwatch();
    const refused = expect(inFlight).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONNECTION' });
    await kit.close({ timeout: '200ms' });
    await refused;
    expect(elapsedMs()).toBeLessThan(5_000);
  });

  it('close() does not wait for a connection that was never established', async () => {
    const kit = createRedisKit({ port: await freePort(), logger: false, commandTimeout: '10s' });
    const ready = expect(kit.ready()).rejects.toMatchObject(CLOSED);
    const early = expect(kit.locks.tryAcquire('a')).rejects.toMatchObject(CLOSED);
    const elapsedMs = stopwatch();
    await kit.close();
    await Promise.all([ready, early]);
    expect(elapsedMs()).toBeLessThan(2_500);
  });

  it.each(['memory:', 'Redis'])(
    'close() makes a kit on %s reject later calls, but close() of a namespace closes nothing',
    async (where) => {
      const server = await startRedis();
      onTestFinished(() => server.stop());
      const url = where === 'Redis' ? server.url : 'memory:';
      const kit = createRedisKit({ url, logger: false, prefix: 't-close' });
      const limiter = kit.limiter({ algorithm: 'sliding-window', limit: 9, window: '1h' });
      await kit.ready();
      await kit.namespace('tenant').close();
      expect(await limiter.consume('ann')).toMatchObject({ degraded: false });
      await kit.close();
      expect(await limiter.consume('ann')).toMatchObject({ degraded: true });
      await expect(kit.locks.tryAcquire('x')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CLOSED' });
      await expect(kit.sessions.list('ann')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CLOSED' });
      await expect(kit.sessions.count()).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CLOSED' });
      await expect(kit.ready()).rejects.toMatchObject(CLOSED);
      await expect(kit.namespace('tenant').ready()).rejects.toMatchObject(CLOSED);
      await kit.close();
    },
  );

  it('close() rejects options that are no object', async () => {
    const kit = createRedisKit({ url: 'memory:', logger: false });
    await expect(kit.close('5s' as never)).rejects.toThrow('kit.close: options must be an object');
    await expect(kit.close({ after: '5s' } as never)).rejects.toThrow('unknown option `after`');
    await kit.close({ timeout: undefined });
  });

  it('close() rejects an invalid timeout', async () => {
    const kit = kitForTest({ url: 'memory:' });
    for (const timeout of [0, '25d'] as const) {
      await expect(kit.close({ timeout })).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONFIG' });
    }
  });
});

describeWithServers('a process with a kit', () => {
  const run = (source: string) => startProgram(source).ended;

  const USE_ALL = `
    await kit.ready();
    const lock = await kit.locks.tryAcquire('exit', { lease: '1m' });
    const limiter = kit.limiter({ algorithm: 'token-bucket', capacity: 5, refill: { tokens: 1, per: '1s' } });
    await limiter.consume('a');
    await lock.release();
    await kit.locks.tryAcquire('kept', { lease: '1m' });
    await kit.close();
    const left = () => process.getActiveResourcesInfo().filter((name) => !/Pipe|Immediate/.test(name)).join();
    const end = performance.now() + 1_000;
    while (left() !== '' && performance.now() < end) await new Promise((resolve) => setImmediate(resolve));
    console.log('left:', left());
  `;

  it('a process ends by itself once its kit is closed', async () => {
    const server = await startForTest();
    const { code, said } = await run(
      `const kit = createRedisKit({ url: '${server.url}', prefix: 't-exit' });${USE_ALL}`,
    );
    expect(said).toBe('left:');
    expect(code).toBe(0);
  });

  it('a process ends by itself once its kit on a cluster is closed', async () => {
    const cluster = await startCluster();
    onTestFinished(() => cluster.stop());
    const nodes = cluster.nodes.map(({ server }) => `'${server.url}'`).join();
    const { code, said } = await run(
      `const kit = createRedisKit({ cluster: { nodes: [${nodes}] }, prefix: 't-exit' });${USE_ALL}`,
    );
    expect(said).toBe('left:');
    expect(code).toBe(0);
  });

  it.each(['port: PORT', 'cluster: { nodes: [{ host: "127.0.0.1", port: PORT }] }'])(
    'a process ends by itself when its kit is closed while Redis was never reachable (%s)',
    async (where) => {
      const options = where.replace('PORT', String(await freePort()));
      const { code, said } = await run(`
        const kit = createRedisKit({ ${options}, logger: false });
        const refused = kit.locks.tryAcquire('a').catch((error) => console.log(error.code));
        await kit.close();
        await refused;
      `);
      expect(said).toMatch(/^ERR_REDIS_KIT_C/);
      expect(code).toBe(0);
    },
  );

  it('a process ends by itself when its kit is closed while it connects', async () => {
    const [server, cluster] = await Promise.all([startForTest(), startCluster({ masters: 1 })]);
    onTestFinished(() => cluster.stop());
    const nodes = cluster.nodes.map((node) => `'${node.server.url}'`).join();
    const { code, said } = await run(`
      const ways = [{ url: '${server.url}' }, { cluster: { nodes: [${nodes}] } }];
      for (const way of ways) {
        for (let turns = 0; turns < 40; turns += 3) {
          const kit = createRedisKit({ ...way, logger: false });
          for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
          await kit.close();
        }
      }
      const { stopwatch } = await import('./test/support/stopwatch.ts');
      const elapsedMs = stopwatch();
      process.on('exit', () => console.log(elapsedMs() < 4_000 ? 'soon' : 'late'));
    `);
    expect({ code, said: said }, 'a forgotten socket ends after 5 s').toEqual({
      code: 0,
      said: 'soon',
    });
  });

  it('a process without an error listener survives the loss of Redis', async () => {
    const server = await startForTest();
    const { code, said } = await run(`
      const kit = createRedisKit({ url: '${server.url}', logger: false, prefix: 't-exit' });
      await kit.ready();
      kit.on('connection:down', () => console.log('lost'));
      process.kill(${server.pid}, 'SIGKILL');
      while ((await kit.locks.tryAcquire('a').then(() => 'up', (error) => error.name)) !== 'ConnectionError');
      await kit.close();
    `);
    expect(said).toBe('lost');
    expect(code).toBe(0);
  });
});
