import { expect, it, onTestFinished } from 'vitest';
import { LockTimeoutError, type RedisKit } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { kitForTest, testPrefix } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startRedis } from '../support/servers.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { countCommands } from '../support/wire.ts';

const KITS = 4;
const WAITERS = 64;

describeWithServers('The commands of locks on the wire', () => {
  async function start(count: number) {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const prefix = testPrefix();
    const kits = Array.from({ length: count }, () => kitForTest({ url: server.url, prefix }));
    const scripts = async (work: () => unknown) =>
      (await countCommands(server.url, work)).filter(([name]) => name === 'EVALSHA').length;
    const waiting = (waiters: number) =>
      withPlainClient(server.url, (client) =>
        until(`${waiters} wait`, async () => (await client.zCard(`${prefix}:lock:{a}:line`)) === waiters),
      );
    /** Each kit waits once, so that it is subscribed and the scripts are loaded. */
    for (const kit of kits) {
      const held = await kit.locks.acquire('a');
      const next = kit.locks.acquire('a', { wait: '2m' });
      await waiting(1);
      await held.release();
      await (await next).release();
    }
    // A renewal, or a second wake-up after an unconfirmed handoff, would be one more command.
    stopTime();
    return { kits, scripts, waiting };
  }

  it('an uncontended lock costs two commands, with and without `wait`', async () => {
    const { kits, scripts } = await start(1);
    const { locks } = kits[0] as RedisKit;
    expect(await scripts(() => locks.using('a', { wait: '2m' }, () => undefined))).toBe(2);
    expect(await scripts(async () => (await locks.tryAcquire('a'))?.release())).toBe(2);
    expect(await scripts(() => locks.using(['a', 'b'], {}, () => undefined))).toBe(4);
  });

  it('a refused lock costs one command, and a waiter that gives up costs at most three commands', async () => {
    const { kits, scripts, waiting } = await start(1);
    const { locks } = kits[0] as RedisKit;
    await locks.acquire('a', { lease: '1h' });
    expect(await scripts(() => locks.tryAcquire('a'))).toBe(1);
    const giveUp = async () => {
      const refused = expect(locks.acquire('a', { wait: '100ms' })).rejects.toThrow(LockTimeoutError);
      await waiting(1);
      await passTime(200);
      await refused;
      await waiting(0);
    };
    // The waiter asks, asks once more when its wait is over, and leaves the queue.
    expect(await scripts(giveUp)).toBeLessThanOrEqual(3);
  });

  it(`${WAITERS} waiters in ${KITS} processes are granted the lock in the order of arrival, with three commands each`, async () => {
    const { kits, scripts, waiting } = await start(KITS);
    const order: number[] = [];
    const sent = await scripts(async () => {
      const held = await (kits[0] as RedisKit).locks.acquire('a');
      const all = [];
      for (let place = 0; place < WAITERS; place++) {
        const { locks } = kits[place % KITS] as RedisKit;
        all.push(locks.using('a', { wait: '2m' }, () => order.push(place)));
        await waiting(place + 1);
      }
      await held.release();
      await Promise.all(all);
    });
    expect(order).toEqual(Array.from({ length: WAITERS }, (_, place) => place));
    expect(sent).toBe(2 + 3 * WAITERS);
  });
});
