import express from 'express';
import { expect, it, onTestFinished } from 'vitest';
import { LockTimeoutError, type RedisKit } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startProgram } from '../support/program.ts';
import { startProxy } from '../support/proxy.ts';
import { startRedis } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { passTime, passTimeUntilSettled, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

const LONG = '2m';

/** Waits until the kit is woken by a message, which shows that it is subscribed. */
async function untilSubscribed(kit: RedisKit, other: RedisKit): Promise<void> {
  const waits = eventsOf(kit, 'lock:waited');
  while ((waits.at(-1)?.waitedMs ?? 1_000) > 200) {
    const first = await other.locks.acquire('a', { lease: '1h' });
    const second = kit.locks.acquire('a', { wait: LONG });
    await until('it waits', async () => (await other.locks.inspect('a')).waiters === 1);
    await first.release();
    await (await second).release();
  }
}

describeWithServers('A wait for a lock during faults', () => {
  async function start() {
    const stray: unknown[] = [];
    const note = (reason: unknown) => stray.push(reason);
    process.on('unhandledRejection', note);
    const server = await startRedis();
    onTestFinished(async () => {
      await server.stop();
      process.off('unhandledRejection', note);
      expect(stray).toEqual([]);
    });
    const prefix = testPrefix();
    const kit = kitForTest({ url: server.url, prefix, commandTimeout: '300ms' });
    const other = kitForTest({ url: server.url, prefix, commandTimeout: '300ms' });
    await Promise.all([kit.ready(), other.ready()]);
    const waiters = (count: number) =>
      until(`${count} wait`, async () => (await other.locks.inspect('a')).waiters === count);
    return { server, prefix, kit, other, waiters };
  }

  it('a waiter asks again after a lost subscription, when a wake-up may have been missed', async () => {
    const { server, prefix, kit, other, waiters } = await start();
    await untilSubscribed(kit, other);
    await other.locks.acquire('a', { lease: '1h' });
    const waiting = kit.locks.acquire('a', { wait: LONG });
    await waiters(1);
    await withPlainClient(server.url, async (client) => {
      const killed = client.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub']);
      // The lock becomes free without a message, before the kit subscribes again.
      await Promise.all([killed, client.del(`${prefix}:lock:{a}`)]);
    });
    (await waiting).assertHeld();
  });

  it('a wait outlasts an outage, and the waiter is granted the lock afterwards', async () => {
    const { server, kit, other, waiters } = await start();
    const errors = eventsOf(kit, 'error');
    const held = await other.locks.acquire('a', { lease: '1h' });
    const waiting = kit.locks.acquire('a', { wait: LONG });
    await waiters(1);
    await server.kill();
    await until('the failure is reported', () => errors.length > 0);
    await server.restart();
    (await waiting).assertHeld();
    expect(await held.release(), 'Redis was restarted empty').toBe(false);
  });

  it('the wait of a request outlasts a Redis that is frozen for longer than the deadline of the request', async () => {
    const { server, kit, other, waiters } = await start();
    const errors = eventsOf(kit, 'error');
    const app = express();
    app.get('/', kit.lock({ key: () => 'a', wait: LONG }), (_req, res) => void res.send('ran'));
    const address = await serve(app);
    await other.locks.acquire('a', { lease: '3s', renew: false });
    const answer = send(address);
    await waiters(1);
    server.freeze();
    // The waiter asks again when the lease has ended, without success.
    await until('the failure is reported', () => errors.length > 0);
    server.thaw();
    expect((await answer).status).toBe(200);
  });

  it('a wait ends in time even while Redis is frozen', async () => {
    const { server, kit, other, waiters } = await start();
    await other.locks.acquire('a', { lease: '1h' });
    const elapsedMs = stopwatch();
    const waiting = kit.locks.acquire('a', { wait: '1s' });
    await waiters(1);
    server.freeze();
    const error = await waiting.catch((reason: unknown) => reason);
    expect(elapsedMs()).toBeLessThan(6_000);
    expect(error).toMatchObject({
      name: expect.stringMatching(/StoreError|ConnectionError|LockTimeoutError/),
    });
    server.thaw();
    await waiters(0);
  });

  it('a waiter that gave up while Redis was frozen leaves neither a grant nor a place in the queue', async () => {
    const { server, kit, other } = await start();
    server.freeze();
    const tries = ['a', 'b'].map((key) => kit.locks.acquire(key, { wait: '200ms', lease: '1h' }));
    for (const each of tries) await expect(each).rejects.toMatchObject({ status: 503 });
    server.thaw();
    for (const key of ['a', 'b']) {
      await until('the late grant is taken back', async () => {
        const { held, waiters: left } = await other.locks.inspect(key);
        return !held && left === 0;
      });
    }
    await expect(other.locks.acquire('a', { wait: 0 })).resolves.toBeDefined();
  });

  it('a waiter is still woken after a grant that came too late to be used', async () => {
    const { server, kit, other, waiters } = await start();
    await untilSubscribed(kit, other);
    // Shorter than the silence after which a client replaces its socket.
    const first = await other.locks.acquire('a', { lease: 4_000, renew: false });
    const waiting = kit.locks.acquire('a', { wait: LONG, lease: 100 });
    await waiters(1);
    const next = other.locks.acquire('a', { wait: LONG, lease: '1h' });
    await waiters(2);
    server.freeze();
    // The waiter asks when the first lease has ended, and receives the reply when the waiter's own lease has ended.
    await new Promise((resolve) => setTimeout(resolve, first.remainingMs() + 200));
    server.thaw();
    const held = await next;
    await waiters(1);
    const elapsedMs = stopwatch();
    await held.release();
    await (await waiting).release();
    expect(elapsedMs()).toBeLessThan(5_000);
  });

  it('a waiter that lost the reply with its grant is granted the lock again, with a higher fencing token', async () => {
    const { server, prefix, other } = await start();
    const proxy = await startProxy(server);
    const kit = kitForTest({ url: proxy.url, prefix, commandTimeout: '300ms' });
    await kit.ready();
    await untilSubscribed(kit, other);
    stopTime();
    const held = await other.locks.acquire('a', { lease: 60_000, renew: false });
    const waiting = kit.locks.acquire('a', { wait: LONG, lease: '1h' });
    await until('it waits', async () => (await other.locks.inspect('a')).waiters === 1);
    // No message wakes the waiter, so the next reply is to the waiter's next acquire command.
    proxy.loseNextReply();
    await passTime(60_100);
    await until('the reply is lost', () => proxy.cuts === 1);
    const { fence = 0 } = await other.locks.inspect('a');
    expect(fence).toBeGreaterThan(held.fence);
    const lock = await passTimeUntilSettled(waiting);
    expect(lock.fence).toBeGreaterThan(fence);
    expect((await other.locks.inspect('a')).fence).toBe(lock.fence);
    expect(await lock.release()).toBe(true);
  });

  it('a wait ends when a lease was shortened by a command whose reply was lost', async () => {
    const { server, prefix } = await start();
    const proxy = await startProxy(server);
    const kit = kitForTest({ url: proxy.url, prefix, commandTimeout: '300ms' });
    await kit.ready();
    const lock = await kit.locks.acquire('a', { lease: '1h', renew: false });
    await until('the reply is lost, and no other one', async () => {
      await lock.extend('1h');
      proxy.loseNextReply();
      return lock.extend('200ms').then(
        () => false,
        () => true,
      );
    });
    await until('the signal of the holder aborts', () => lock.signal.aborted);
    expect(lock.remainingMs()).toBe(0);
  });

  it('waiters of a killed process delay other waiters by about a second at most', async () => {
    const { server, prefix, kit, other, waiters } = await start();
    const held = await other.locks.acquire('a', { lease: '1h' });
    const doomed = startProgram(`
      const kit = createRedisKit({ url: '${server.url}', prefix: '${prefix}' });
      for (let place = 0; place < 10; place++) void kit.locks.acquire('a', { wait: '1h' });
      setInterval(() => undefined, 60_000);
    `);
    await waiters(10);
    doomed.process.kill('SIGKILL');
    await doomed.ended;
    const living = kit.locks.acquire('a', { wait: LONG });
    await waiters(11);
    const elapsedMs = stopwatch();
    await held.release();
    await living;
    expect(elapsedMs()).toBeLessThan(5_000);
  });

  it('a waiter of a suspended process loses its turn, and joins the queue again when the process resumes', async () => {
    const { server, prefix, kit, other, waiters } = await start();
    const held = await other.locks.acquire('a', { lease: '1h' });
    const sleeper = startProgram(`
      const kit = createRedisKit({ url: '${server.url}', prefix: '${prefix}' });
      const lock = await kit.locks.acquire('a', { wait: '1h', lease: '1h' });
      console.log(lock.fence);
      await lock.release();
      await kit.close();
    `);
    await waiters(1);
    const living = kit.locks.acquire('a', { wait: LONG });
    await waiters(2);
    sleeper.process.kill('SIGSTOP');
    await held.release();
    const lock = await living;
    sleeper.process.kill('SIGCONT');
    await waiters(1);
    await lock.release();
    expect(Number(await sleeper.line())).toBeGreaterThan(lock.fence);
    expect((await sleeper.ended).code).toBe(0);
  });

  it('a waiter for a corrupt lock is refused in time, and is granted the lock after the corrupt value is deleted', async () => {
    const { server, prefix, kit, other } = await start();
    const key = `${prefix}:lock:{a}`;
    await withPlainClient(server.url, (client) => client.set(key, 'garbage', { EX: 600 }));
    await expect(kit.locks.acquire('a', { wait: '200ms' })).rejects.toThrow(LockTimeoutError);
    const waiting = kit.locks.acquire('a', { wait: LONG });
    expect(await other.locks.inspect('a')).toMatchObject({ held: true });
    expect(await other.locks.forceRelease('a')).toBe(true);
    (await waiting).assertHeld();
  });

  it('a waiter joins a queue whose key held a value of another type', async () => {
    const { server, prefix, kit, other, waiters } = await start();
    const line = `${prefix}:lock:{a}:line`;
    const held = await other.locks.acquire('a');
    await withPlainClient(server.url, (client) => client.set(line, 'garbage', { EX: 600 }));
    const waiting = kit.locks.acquire('a', { wait: LONG });
    await waiters(1);
    await withPlainClient(server.url, (client) => client.zAdd(line, { score: 1, value: 'garbage' }));
    await held.release();
    await waiting;
  });
});
