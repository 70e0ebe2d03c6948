import { expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../../support/context.ts';
import { eventsOf, kitForTest } from '../../support/kits.ts';
import { withPlainClient } from '../../support/plain-client.ts';
import { type Program, startProgram } from '../../support/program.ts';
import { type RedisServer, startRedis } from '../../support/servers.ts';
import { stopwatch } from '../../support/stopwatch.ts';
import { until } from '../../support/until.ts';
import { send } from '../../support/web.ts';

/** Longer than a loaded machine keeps a process from renewing a lease. */
const LEASE_MS = 3_500;

async function startForTest(): Promise<RedisServer> {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  return server;
}

/** A server process whose page counts its runs in Redis and takes a while; it prints its address. */
async function startServer(
  server: RedisServer,
  options: string,
  ms: number,
): Promise<Program & { address: string }> {
  const program = startProgram(`
    import express from 'express';
    const kit = createRedisKit({ url: '${server.url}', prefix: 't-processes', commandTimeout: '1m' });
    await kit.ready();
    const app = express();
    app.get('/page', kit.cache(${options}), async (req, res) => {
      const run = await kit.client.incr('outside-runs');
      if ((await kit.client.incr('outside-running')) > 1) await kit.client.incr('outside-overlaps');
      await new Promise((resolve) => setTimeout(resolve, ${ms}));
      await kit.client.decr('outside-running');
      res.send('run ' + run);
    });
    const listener = app.listen(0, '127.0.0.1', () => console.log('http://127.0.0.1:' + listener.address().port));
  `);
  return Object.assign(program, { address: await program.line() });
}

async function allListen(server: RedisServer, count: number): Promise<void> {
  await withPlainClient(server.url, (client) =>
    until('all listen', async () => {
      const [channel = ''] = await client.pubSubChannels('t-processes:*');
      return channel !== '' && (await client.pubSubNumSub([channel]))[channel] === count;
    }),
  );
}

const runsOf = (server: RedisServer) => numberIn(server, 'outside-runs');

/** The number of runs of the handler that began during another run. */
const overlapsOf = (server: RedisServer) => numberIn(server, 'outside-overlaps');

function numberIn(server: RedisServer, key: string): Promise<number> {
  return withPlainClient(server.url, async (client) => Number(await client.get(key)));
}

describeWithServers('a cache of several processes', () => {
  it('a handler runs once for forty concurrent requests in two processes, and its end wakes the waiting process', async () => {
    const server = await startForTest();
    const options = `{ ttl: '1m', key: { host: false }, singleFlight: { lease: '30s', wait: '30s' } }`;
    const programs = [await startServer(server, options, 400), await startServer(server, options, 400)];
    await allListen(server, 2);
    const elapsedMs = stopwatch();
    const answers = await Promise.all(
      programs.flatMap(({ address }) => Array.from({ length: 20 }, () => send(`${address}/page`))),
    );
    expect(answers.map(({ text }) => text)).toEqual(Array(40).fill('run 1'));
    expect(await runsOf(server)).toBe(1);
    // Much less than the lease, so they were woken.
    expect(elapsedMs()).toBeLessThan(15_000);
  });

  it('a waiting process runs its own handler when the lease of a killed process has expired', async () => {
    const server = await startForTest();
    const maker = await startServer(
      server,
      `{ ttl: '1m', key: { host: false }, singleFlight: { lease: ${LEASE_MS} } }`,
      600_000,
    );
    const other = await startServer(
      server,
      `{ ttl: '1m', key: { host: false }, singleFlight: { lease: ${LEASE_MS}, wait: '1m' } }`,
      0,
    );
    const doomed = send(`${maker.address}/page`).catch(() => undefined);
    await until('it is being made', async () => (await runsOf(server)) === 1);
    const waiting = Array.from({ length: 5 }, () => send(`${other.address}/page`));
    // The lease is renewed while its holder lives.
    await new Promise((resolve) => setTimeout(resolve, 1.1 * LEASE_MS));
    expect(await runsOf(server)).toBe(1);
    maker.process.kill('SIGKILL');
    await doomed;
    const elapsedMs = stopwatch();
    expect((await Promise.all(waiting)).map(({ text }) => text)).toEqual(Array(5).fill('run 2'));
    expect(elapsedMs()).toBeLessThan(2 * LEASE_MS);
  });

  it('a stale response is refreshed once for all processes', async () => {
    const server = await startForTest();
    const options = `{ ttl: '1s', staleWhileRevalidate: '1h', local: false, key: { host: false } }`;
    const programs = [await startServer(server, options, 300), await startServer(server, options, 300)];
    await allListen(server, 2);
    const [first, second] = programs.map(({ address }) => `${address}/page`) as [string, string];
    await send(first);
    const isStale = async () => {
      const { headers } = await send(first, { method: 'HEAD' });
      return Number(/ttl=(-?\d+)/.exec(String(headers['cache-status']))?.[1] ?? 1) < 0;
    };
    await until('it is stale', isStale);
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => send(index % 2 ? first : second)),
    );
    expect(new Set(answers.map(({ text }) => text))).toContain('run 1');
    await until('it is refreshed', async () => (await send(second)).text !== 'run 1');
    // A refresh takes a while, so two of the same stale response would overlap.
    expect(await overlapsOf(server)).toBe(0);
  });

  it('an invalidation drops the local copies of all processes', async () => {
    const server = await startForTest();
    const options = `{ ttl: '1h', local: { maxAge: '1h' }, key: { host: false }, tags: ['t'] }`;
    const programs = [await startServer(server, options, 0), await startServer(server, options, 0)];
    const kit = kitForTest({ url: server.url, prefix: 't-processes' });
    const purged = eventsOf(kit, 'cache:purged');
    await allListen(server, 2);
    const ask = () => Promise.all(programs.map(async ({ address }) => (await send(`${address}/page`)).text));
    expect(await ask()).toEqual(await ask());
    const before = (await ask())[0];
    await kit.invalidate({ tags: 't' });
    expect(purged).toHaveLength(1);
    await until('neither sends it any more', async () => !(await ask()).includes(before ?? ''));
  });
});
