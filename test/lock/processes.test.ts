import { expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startProgram } from '../support/program.ts';
import { startRedis } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';

const PROCESSES = 4;
const TURNS = 50;

/** Longer than any delay of a renewal on a loaded machine. */
const LEASE_MS = 3_500;

/** Tolerance for two processes that round the same clock to milliseconds. */
const SLACK_MS = 10;

async function startForTest() {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  return server;
}

describeWithServers('A lock in several processes', () => {
  it('a lock becomes free one lease after its holder was killed, and not before', async () => {
    const server = await startForTest();
    const kit = kitForTest({ url: server.url, prefix: 't-processes' });
    const holder = startProgram(`
      const kit = createRedisKit({ url: '${server.url}', prefix: 't-processes' });
      const lock = await kit.locks.tryAcquire('a', { lease: ${LEASE_MS} });
      console.log(lock.fence);
      setInterval(() => undefined, 60_000);
    `);
    const fence = Number(await holder.line());
    const end = performance.now() + 1.1 * LEASE_MS;
    while (performance.now() < end) {
      expect(await kit.locks.tryAcquire('a'), 'it is renewed').toBeNull();
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const { expiresInMs = 0 } = await kit.locks.inspect('a');
    const seenAt = performance.now();
    holder.process.kill('SIGKILL');
    await holder.ended;
    const elapsedMs = stopwatch();
    await until('it is free', async () => {
      await using lock = await kit.locks.tryAcquire('a');
      if (lock !== null) expect(lock.fence).toBeGreaterThan(fence);
      return lock !== null;
    });
    expect(performance.now() - seenAt, 'the lock was not released').toBeGreaterThan(expiresInMs - SLACK_MS);
    expect(elapsedMs()).toBeLessThan(2 * LEASE_MS);
  });

  it('no update is lost when several processes read, wait and write under the lock', async () => {
    const server = await startForTest();
    const programs = Array.from({ length: PROCESSES }, () =>
      startProgram(`
        const kit = createRedisKit({ url: '${server.url}', prefix: 't-processes', commandTimeout: '1m' });
        await kit.ready();
        const { client } = kit;
        const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
        for (let turn = 0; turn < ${TURNS}; turn++) {
          let lock = null;
          while ((lock ??= await kit.locks.tryAcquire('counter', { lease: '10s' })) === null) await pause(1 + Math.random() * 4);
          const seen = Number(await client.get('counter'));
          await pause(Math.random() * 2);
          await client.set('counter', String(seen + 1));
          await client.rPush('fences', String(lock.fence));
          if (!(await lock.release())) throw new Error('the lock was lost');
        }
        await kit.close();
      `),
    );
    for (const { ended } of programs) expect(await ended).toEqual({ code: 0, said: '' });
    await withPlainClient(server.url, async (client) => {
      expect(Number(await client.get('counter'))).toBe(PROCESSES * TURNS);
      const fences = (await client.lRange('fences', 0, -1)).map(Number);
      expect(fences).toHaveLength(PROCESSES * TURNS);
      expect(
        [...new Set(fences)].sort((a, b) => a - b),
        'in the order of the grants',
      ).toEqual(fences);
    });
  });
});
