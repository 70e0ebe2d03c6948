import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { createRedisKit } from '../../src/index.ts';
import { clusterNodes, describeWithServers } from '../support/context.ts';
import { kitForTest, testPrefix } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startProgram } from '../support/program.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';

let server: RedisServer;

/**
 * A program that has used every feature, also with waiters, reservations, local copies and background work. `during` runs
 * before the kit is closed. The program prints the handles that are left, and must end by itself.
 */
const programOf = (options: string, during = '') => `
  import { Agent, createServer, request } from 'node:http';
  import express from 'express';
  const kit = createRedisKit({ ${options}, prefix: 't-exit', logger: false });
  await kit.ready();
  const key = () => 'a';
  const limit = { algorithm: 'sliding-window', limit: 100, window: '1h' };
  const app = express();
  app.use(kit.session({ secret: 'a secret of the test', saveUninitialized: true, touchAfter: 0 }));
  app.use(kit.rateLimit({ ...limit, name: 'reserved', reserve: { units: 10, hold: '1m' }, key }));
  app.use(kit.rateLimit({ ...limit, name: 'waiting', wait: '20s', key }));
  app.use(kit.concurrency({ key, limit: 5, wait: '20s' }));
  app.get('/ready', kit.health({ details: true }));
  app.get('/cached', kit.cache({ ttl: '1m', staleWhileRevalidate: '1m' }), (req, res) => res.send('cached'));
  app.post('/orders', kit.idempotency(), kit.lock({ key, wait: '20s' }), (req, res) => res.send('made'));
  const server = createServer(app).listen(0);
  const ask = (path, method = 'GET') => new Promise((resolve) => {
    const { port } = server.address();
    const headers = { 'Idempotency-Key': '"' + Math.random() + '"' };
    const sent = request({ port, path, method, headers, agent: new Agent({ keepAlive: false }) });
    sent.on('response', (res) => res.resume().on('end', () => resolve(res.statusCode))).on('error', resolve);
    sent.end();
  });
  const statuses = [];
  for (const path of ['/ready', '/cached', '/cached']) statuses.push(await ask(path));
  statuses.push(...(await Promise.all([ask('/orders', 'POST'), ask('/orders', 'POST')])));
  console.log(statuses.join());
  await kit.remember('value', { ttl: '1m', staleWhileRevalidate: '1m' }, () => 1);
  await kit.warm([{ key: 'warm', load: () => 1 }]);
  await kit.invalidate({ tags: 'a' });
  await kit.locks.using('b', { lease: '1m' }, () => undefined);
  const held = await kit.locks.acquire('held', { lease: '1m' });
  const refused = kit.locks.acquire('held', { wait: '1m' }).catch((error) => console.log(error.code));
  ${during}
  server.closeAllConnections();
  server.close();
  await Promise.all([kit.close({ timeout: '300ms' }), kit.close()]);
  await kit.close();
  await refused;
  console.log((await kit.check()).error);
  const left = () => process.getActiveResourcesInfo().filter((name) => !/Pipe|Immediate/.test(name)).join();
  const end = performance.now() + 2_000;
  while (left() !== '' && performance.now() < end) await new Promise((resolve) => setImmediate(resolve));
  console.log('left:', left());
`;

describeWithServers('A process that closes its kit', () => {
  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(() => server.stop());

  it.each(['Redis', 'a Cluster', 'memory:'])(
    'a process that used every feature on %s ends by itself',
    async (where) => {
      const nodes = clusterNodes().map(({ host, port }) => `{ host: '${host}', port: ${port} }`);
      const cluster = `cluster: { nodes: [${nodes}] }`;
      const options = where === 'a Cluster' ? cluster : `url: '${where === 'Redis' ? server.url : where}'`;
      const { code, said } = await startProgram(programOf(options).replaceAll('t-exit', testPrefix())).ended;
      expect(said.split('\n')).toEqual([
        '200,200,200,200,200',
        'ERR_REDIS_KIT_CLOSED',
        'the kit is closed',
        'left:',
      ]);
      expect(code).toBe(0);
    },
  );

  it.each(['SIGSTOP', 'SIGKILL'])(
    'a process ends by itself when its kit is closed after its Redis got %s',
    async (signal) => {
      const lost = await startRedis();
      onTestFinished(() => lost.stop());
      const outage = `
      process.kill(${lost.pid}, '${signal}');
      const late = [ask('/cached'), ask('/orders', 'POST'), kit.remember('late', '1m', () => 1)];
    `;
      const program = programOf(`url: '${lost.url}', commandTimeout: '5s'`, outage);
      const { code, said } = await startProgram(program).ended;
      expect(said.split('\n').slice(-2)).toEqual(['the kit is closed', 'left:']);
      expect(code).toBe(0);
    },
  );

  it('close() gives the units of a reservation back, and leaves neither locks nor slots', async () => {
    const prefix = testPrefix();
    const [closed, other] = [1, 2].map(() => createRedisKit({ url: server.url, prefix, logger: false }));
    onTestFinished(async () => void (await Promise.all([closed?.close(), other?.close()])));
    const policy = { algorithm: 'sliding-window', limit: 10, window: '1h', name: 'batch' } as const;
    const ahead = closed?.rateLimit({ ...policy, reserve: { units: 10, hold: '1h' } }).limiter;
    expect(await ahead?.consume('ann')).toMatchObject({ allowed: true });
    const lock = await closed?.locks.acquire('a', { lease: '1h' });
    const ended = closed?.close();
    await lock?.release();
    await ended;
    const limiter = other?.rateLimit(policy).limiter;
    expect(await limiter?.peek('ann')).toMatchObject({ remaining: 9 });
    const locks = await withPlainClient(server.url, (client) => client.keys(`${prefix}:lock:*`));
    expect(locks).toEqual([`${prefix}:lock:{a}:fence`]);
  });

  it('close() leaves a borrowed client connected, and without listeners of the kit', async () => {
    await withPlainClient(server.url, async (client) => {
      const names = ['ready', 'error', 'reconnecting', 'end'];
      const before = names.map((name) => client.listenerCount(name));
      const kit = kitForTest({ client } as never);
      await kit.locks.using('a', { wait: '1s' }, () => undefined);
      await kit.close();
      expect(await client.ping()).toBe('PONG');
      expect(names.map((name) => client.listenerCount(name))).toEqual(before);
    });
  });
});
