import express from 'express';
import { expect, it, onTestFinished } from 'vitest';
import type { KitOptions, LockHandle, LockOptions } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startProxy } from '../support/proxy.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';
import { countCommands } from '../support/wire.ts';

const LONG_LEASE = '1h';

function held(handle: LockHandle | null): LockHandle {
  if (handle === null) throw new Error('the lock was not free');
  return handle;
}

function ignore(): void {
  // The result is ignored: the test reads the outcome from Redis.
}

/** Fails the test on an unhandled rejection. */
function expectNoStrayRejection(): void {
  const stray: unknown[] = [];
  const note = (reason: unknown) => stray.push(reason);
  process.on('unhandledRejection', note);
  onTestFinished(() => {
    process.off('unhandledRejection', note);
    expect(stray).toEqual([]);
  });
}

async function start(options: KitOptions = {}) {
  expectNoStrayRejection();
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const kit = kitForTest({ url: server.url, commandTimeout: '300ms', ...options });
  await kit.ready();
  const key = `${kit.prefix}:lock:{a}`;
  return { server, kit, key };
}

type Kit = Awaited<ReturnType<typeof start>>['kit'];

async function serveLocked(kit: Kit, options: Partial<LockOptions> = {}): Promise<string> {
  const app = express();
  app.get('/', kit.lock({ key: () => 'a', lease: LONG_LEASE, ...options }), (req, res) => {
    res.send(req.lock === undefined ? 'without a lock' : 'with a lock');
  });
  return serve(app);
}

/** Reads the lock from Redis, without the kit. */
function isStored({ url }: RedisServer, key: string): Promise<boolean> {
  return withPlainClient(url, async (client) => (await client.exists(key)) === 1);
}

describeWithServers('A lock during faults of Redis and the network', () => {
  it('a lock whose extension shortened the lease is held for the shorter time, even if the reply was lost', async () => {
    const { server, key } = await start();
    const proxy = await startProxy(server);
    const kit = kitForTest({ url: proxy.url, prefix: key.slice(0, key.indexOf(':')) });
    const lock = await kit.locks.acquire('a', { lease: LONG_LEASE, renew: false });
    // The first call loads the script into the server, so that the next one is a single command.
    await lock.extend();
    stopTime();
    proxy.loseNextReply();
    await expect(lock.extend('100ms')).rejects.toMatchObject({ status: 503 });
    expect(lock.remainingMs()).toBe(100);
    await passTime(100);
    expect(lock.remainingMs()).toBe(0);
    await until('its key has ended as well', async () => !(await isStored(server, key)));
  });

  it('an uncontended lock costs two commands', async () => {
    const { server, kit } = await start({ commandTimeout: '1m' });
    const address = await serveLocked(kit);
    await send(address);
    const commands = await countCommands(server.url, () => send(address));
    expect(commands.map(([name]) => name).filter((name) => name !== 'PING')).toEqual(['EVALSHA', 'EVALSHA']);
  });

  it('a request is refused with 503 and Retry-After while Redis is down, or runs without its lock if onError is allow', async () => {
    const { server, kit } = await start();
    const [denying, allowing] = await Promise.all([serveLocked(kit), serveLocked(kit, { onError: 'allow' })]);
    const downs = eventsOf(kit, 'connection:down');
    await server.kill();
    await until('the loss is noticed', () => downs.length > 0);
    const refusal = await send(denying);
    expect(refusal.status).toBe(503);
    expect(refusal.headers['content-type']).toContain('application/problem+json');
    expect(refusal.headers['retry-after']).toBe('1');
    expect((await send(allowing)).text).toBe('without a lock');
    await expect(kit.locks.tryAcquire('a')).rejects.toMatchObject({ name: 'ConnectionError' });
    await server.restart();
    await until('it can be had again', async () => (await send(denying)).text === 'with a lock');
    expect((await send(allowing)).text).toBe('with a lock');
  });

  it.each(['', 'garbage', '1:5', '1:1:1:', '1:1:1:to/ken', '0:1:2:token'])(
    'a lock with the corrupt value %j is treated as held, and the corruption is reported once',
    async (value) => {
      const { server, kit, key } = await start();
      const address = await serveLocked(kit, { onError: 'allow' });
      const errors = eventsOf(kit, 'error');
      await withPlainClient(server.url, (client) => client.set(key, value));
      for (let turn = 0; turn < 3; turn++) expect((await send(address)).status).toBe(409);
      expect(errors).toMatchObject([{ feature: 'lock', error: { code: 'ERR_REDIS_KIT_CORRUPT' } }]);
      expect(String(errors[0]?.error)).toContain(key);
      await withPlainClient(server.url, async (client) => {
        expect(await client.getDel(key), 'untouched').toBe(value);
      });
      expect((await send(address)).text).toBe('with a lock');
    },
  );

  it('a lock whose key has another type is treated as held', async () => {
    const { server, kit, key } = await start();
    await withPlainClient(server.url, (client) => client.lPush(key, 'x'));
    expect(await kit.locks.tryAcquire('a')).toBeNull();
  });

  it('a lock in a newer format is neither granted nor overwritten: the response is 503, even if onError is allow', async () => {
    const { server, kit, key } = await start();
    await withPlainClient(server.url, (client) => client.set(key, '2:whatever', { EX: 60 }));
    for (const onError of ['deny', 'allow'] as const) {
      expect((await send(await serveLocked(kit, { onError }))).status).toBe(503);
    }
    await expect(kit.locks.tryAcquire('a')).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_NEWER_FORMAT' });
    expect(await withPlainClient(server.url, (client) => client.get(key))).toBe('2:whatever');
  });

  it('a lock that is granted after its caller has given up is released, even while the circuit breaker is open', async () => {
    const { server, kit, key } = await start();
    const granted = await kit.locks.tryAcquire('warm-up');
    await granted?.release();
    server.freeze();
    const attempts = Array.from({ length: 5 }, () => kit.locks.tryAcquire('a', { lease: LONG_LEASE }));
    for (const attempt of attempts)
      await expect(attempt).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_TIMEOUT' });
    server.thaw();
    await until('Redis has granted it', async () =>
      withPlainClient(server.url, async (client) => (await client.exists(`${key}:fence`)) === 1),
    );
    await until('it is given back', async () => !(await isStored(server, key)));
    await until('it can be had again', () =>
      kit.locks.tryAcquire('a').then(
        (lock) => lock !== null,
        () => false,
      ),
    );
  });

  it('a lock is released when the reply that granted it was lost with the connection', async () => {
    const { server, key } = await start();
    const proxy = await startProxy(server);
    const kit = kitForTest({ url: proxy.url, prefix: key.slice(0, key.indexOf(':')) });
    await (await kit.locks.tryAcquire('warm-up'))?.release();
    proxy.loseNextReply();
    await expect(kit.locks.tryAcquire('a', { lease: LONG_LEASE })).rejects.toMatchObject({
      name: 'StoreError',
      code: 'ERR_REDIS_KIT_CONNECTION',
    });
    await until('it is given back', async () => !(await isStored(server, key)));
    expect(await kit.locks.tryAcquire('a')).not.toBeNull();
  });

  it('a lock that cannot be released during an outage is released soon after the outage, without delaying the response', async () => {
    const { server, kit, key } = await start();
    let lock: LockHandle | undefined;
    const app = express();
    app.get('/', kit.lock({ key: () => 'a', lease: LONG_LEASE }), (req, res) => {
      lock = req.lock;
      server.freeze();
      res.send('done all the same');
    });
    const address = await serve(app);
    const elapsedMs = stopwatch();
    const answer = await send(address);
    expect([answer.status, answer.text]).toEqual([200, 'done all the same']);
    expect(elapsedMs()).toBeLessThan(2_000);
    expect(await lock?.release()).toBe(false);
    for (let turn = 0; turn < 3; turn++) await kit.locks.tryAcquire('b').catch(ignore);
    server.thaw();
    await until('it is free', async () => !(await isStored(server, key)));
  });

  it('a lock that cannot be renewed in time is lost, and `onLost` is called once', async () => {
    const { server, kit } = await start();
    stopTime();
    const lost: unknown[] = [];
    const [acquired, events] = [eventsOf(kit, 'lock:acquired'), eventsOf(kit, 'lock:lost')];
    const app = express();
    app.get(
      '/',
      kit.lock({
        key: () => 'a',
        lease: 60_000,
        onLost(_req, _res, error) {
          lost.push(error);
          throw new Error('a listener that throws does not end the process');
        },
      }),
      (req, res) => {
        server.freeze();
        req.lock?.signal.addEventListener('abort', () =>
          res.status(500).send(String(req.lock?.signal.reason)),
        );
      },
    );
    const asked = send(await serve(app));
    await until('the handler runs', () => acquired.length === 1);
    await passTime(60_000);
    const answer = await asked;
    expect(answer.text).toMatch(/^LockLostError: the lease of the lock 'a' may have ended/);
    expect(lost).toMatchObject([{ code: 'ERR_REDIS_KIT_LOCK_LOST' }]);
    expect(events).toHaveLength(1);
    server.thaw();
    await until('the next one gets it', () =>
      kit.locks.tryAcquire('a').then(
        (lock) => lock !== null,
        () => false,
      ),
    );
  });

  it('a lock outlives an outage that is shorter than its lease', async () => {
    stopTime();
    const { server, kit } = await start();
    const errors = eventsOf(kit, 'error');
    const lock = held(await kit.locks.tryAcquire('a', { lease: 300_000 }));
    server.freeze();
    // The first renewal is due after a third of the lease, and times out after the deadline of a command.
    await passTime(100_000);
    await until('a renewal has failed', async () => {
      await passTime(100);
      return errors.length > 0;
    });
    expect(lock.remainingMs()).toBeLessThan(200_000);
    server.thaw();
    await until('it was renewed', async () => {
      await passTime(1_000);
      return lock.remainingMs() > 290_000;
    });
    expect(lock.signal.aborted).toBe(false);
    expect(await lock.release()).toBe(true);
  });

  it('a lock has a higher fencing token after Redis has lost all data', async () => {
    const { server, kit } = await start();
    const before = held(await kit.locks.tryAcquire('a'));
    await withPlainClient(server.url, (client) => client.flushAll());
    const flushed = held(await kit.locks.tryAcquire('a'));
    expect(flushed.fence).toBeGreaterThan(before.fence);
    await server.kill();
    await server.restart();
    let after: LockHandle | null = null;
    await until('it can be had again', async () => {
      after = await kit.locks.tryAcquire('a').catch(() => null);
      return after !== null;
    });
    expect(held(after).fence).toBeGreaterThan(flushed.fence);
  });

  it('every key that a lock leaves behind has a TTL', async () => {
    const { server, kit } = await start();
    await kit.locks.tryAcquire('a', { lease: LONG_LEASE });
    const extended = held(await kit.locks.tryAcquire('b', { lease: LONG_LEASE }));
    await extended.extend();
    await (await kit.locks.tryAcquire('c'))?.release();
    await withPlainClient(server.url, async (client) => {
      const keys = await client.keys('*');
      expect(keys).toHaveLength(5);
      for (const key of keys) expect(await client.pTTL(key), key).toBeGreaterThan(3_000_000);
    });
  });
});
