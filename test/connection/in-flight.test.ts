import type { EventEmitter } from 'node:events';
import { expect, it, onTestFinished } from 'vitest';
import { Emitter } from '../../src/base/emitter.ts';
import { ConnectionError, RedisKitError, StoreError } from '../../src/base/errors.ts';
import type { KitEvents } from '../../src/base/events.ts';
import { silentLogger } from '../../src/base/logger.ts';
import type { Connection } from '../../src/connection/connection.ts';
import { Deadline } from '../../src/engine/deadline.ts';
import { defineOperation } from '../../src/engine/operation.ts';
import { redisEngine } from '../../src/engine/redis-engine.ts';
import { openConnection } from '../support/connection.ts';
import { describeWithServers } from '../support/context.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startProxy } from '../support/proxy.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';
import { countCommands } from '../support/wire.ts';

const TIMEOUT_MS = 1_000;

/** An operation that counts in Redis how often it ran. */
const count = defineOperation<number, number>({
  name: 'test-count',
  lua: `return redis.call('INCRBY', KEYS[1], ARGV[2])`,
  encode: (by) => [String(by)],
  runInMemory: () => 0,
  decode: (reply) => Number(reply),
});

async function startForTest(): Promise<RedisServer> {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  return server;
}

function connectTo(url: string, events = new Emitter<KitEvents>(silentLogger)): Connection {
  const connection = openConnection({ url }, TIMEOUT_MS, events);
  onTestFinished(() => connection.close(1_000));
  return connection;
}

function engineOn(url: string) {
  return redisEngine(connectTo(url), { commandTimeoutMs: TIMEOUT_MS });
}

function counter(url: string): Promise<number> {
  return withPlainClient(url, async (client) => Number(await client.get('counter')));
}

function blockFor(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end) Math.random();
}

describeWithServers('a command in flight', () => {
  it('a command whose reply is lost is rejected and not sent again', async () => {
    const server = await startForTest();
    const proxy = await startProxy(server);
    const engine = engineOn(proxy.url);
    expect(await engine.run(count, ['counter'], 1)).toBe(1);
    const commands = await countCommands(server.url, async () => {
      proxy.loseNextReply();
      const error = await engine.run(count, ['counter'], 1).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(StoreError);
      expect(error).not.toBeInstanceOf(ConnectionError);
      expect(error).toMatchObject({ code: 'ERR_REDIS_KIT_CONNECTION' });
      expect(proxy.cuts).toBe(1);
      expect(await engine.run(count, ['counter'], 1), 'on the next connection').toBe(3);
    });
    expect(commands.filter(([name]) => name === 'EVALSHA')).toHaveLength(2);
    expect(commands.filter(([name]) => name === 'EVAL')).toHaveLength(0);
  });

  it('a command whose client Redis kills runs at most once', async () => {
    const server = await startForTest();
    const engine = engineOn(server.url);
    await engine.run(count, ['counter'], 1);
    const outcomes: unknown[] = [];
    const keepCounting = async () => {
      for (let turn = 0; turn < 100; turn++) {
        outcomes.push(await engine.run(count, ['counter'], 1).catch((error: unknown) => error));
      }
    };
    await withPlainClient(server.url, async (killer) => {
      const load = Promise.all(Array.from({ length: 20 }, keepCounting));
      for (let kill = 1; kill <= 5; kill++) {
        await until('some more have run', () => outcomes.length > kill * 200);
        await killer.sendCommand(['CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes']);
      }
      await load;
    });
    expect(outcomes).toHaveLength(2_000);
    const failures = outcomes.filter((outcome) => outcome instanceof Error);
    expect(failures.length).toBeGreaterThan(0);
    for (const failure of failures) expect(failure).toBeInstanceOf(RedisKitError);
    const successes = outcomes.filter((outcome) => typeof outcome === 'number');
    expect(new Set(successes).size, 'no reply is given twice').toBe(successes.length);
    const total = (await counter(server.url)) - 1;
    expect(total).toBeGreaterThanOrEqual(successes.length);
    expect(total).toBeLessThanOrEqual(outcomes.length);
    await until('it works again', () => engine.run(count, ['counter'], 1).then(Boolean, () => false));
  });

  it('a breaker closes soon after a reconnect, even if many commands failed', async () => {
    const server = await startForTest();
    const proxy = await startProxy(server);
    const events = new Emitter<KitEvents>(silentLogger);
    const connection = connectTo(proxy.url, events);
    const engine = redisEngine(connection, { commandTimeoutMs: TIMEOUT_MS });
    await engine.run(count, ['counter'], 1);
    let sinceReadyMs = stopwatch();
    (connection.client as EventEmitter).on('ready', () => {
      sinceReadyMs = stopwatch();
    });
    let sparedMs = 0;
    let spared = 0;
    events.on('connection:breaker', ({ state }) => {
      if (state === 'open') return;
      spared++;
      sparedMs += sinceReadyMs();
    });
    for (let loss = 1; loss <= 4; loss++) {
      proxy.loseNextReply();
      await Promise.allSettled(Array.from({ length: 10 }, () => engine.run(count, ['counter'], 1)));
      await until('the node answers a command again', async () => {
        await engine.run(count, ['counter'], 1).catch(() => undefined);
        return spared === loss;
      });
    }
    expect(sparedMs, 'it would otherwise be asked every half second').toBeLessThan(1_000);
  });

  it('an operation succeeds after SCRIPT FLUSH', async () => {
    const server = await startForTest();
    const engine = engineOn(server.url);
    await withPlainClient(server.url, async (flusher) => {
      for (let round = 0; round < 5; round++) {
        const runs = Array.from({ length: 50 }, () => engine.run(count, ['counter'], 1));
        await flusher.scriptFlush();
        await Promise.all(runs);
      }
    });
    expect(await counter(server.url)).toBe(250);
  });

  it('a command is rejected after its deadline, and its late reply is ignored', async () => {
    const server = await startForTest();
    const engine = engineOn(server.url);
    await engine.run(count, ['counter'], 1);
    server.freeze();
    const begin = performance.now();
    await expect(engine.run(count, ['counter'], 10)).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_TIMEOUT' });
    expect(performance.now() - begin).toBeGreaterThanOrEqual(TIMEOUT_MS - 20);
    server.thaw();
    expect(await engine.run(count, ['counter'], 100), 'it had run, once').toBe(111);
  });

  it('a command does not time out if the event loop is blocked while its reply arrives', async () => {
    const server = await startForTest();
    const engine = engineOn(server.url);
    await engine.run(count, ['counter'], 1);
    const deadline = new Deadline(TIMEOUT_MS);
    for (let round = 1; round <= 3; round++) {
      const isWritten = new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
      const reply = engine.run(count, ['counter'], 1, deadline);
      await isWritten;
      blockFor(TIMEOUT_MS * 1.2);
      expect(await reply).toBe(round + 1);
    }
    expect(deadline.remainingMs(), 'nor is the time the deadline of the request').toBeGreaterThan(
      TIMEOUT_MS / 2,
    );
  });

  it('a command does not time out if the event loop is blocked before the command is sent', async () => {
    const server = await startForTest();
    const engine = engineOn(server.url);
    await engine.run(count, ['counter'], 1);
    const reply = engine.run(count, ['counter'], 1);
    blockFor(TIMEOUT_MS * 1.2);
    expect(await reply).toBe(2);
  });
});

describeWithServers('the Redis engine', () => {
  it('the Redis engine sends one EVALSHA per operation, and an EVAL only for an unknown script', async () => {
    const server = await startForTest();
    const engine = engineOn(server.url);
    const commands = await countCommands(server.url, async () => {
      for (let turn = 0; turn < 3; turn++) await engine.run(count, ['counter'], 1);
    });
    const ours = commands.filter(([name]) => name.startsWith('EVAL'));
    expect(ours.map(([name]) => name)).toEqual(['EVALSHA', 'EVAL', 'EVALSHA', 'EVALSHA']);
    expect(ours[3]).toEqual(['EVALSHA', count.sha, '1', 'counter', '', '1']);
    expect(ours[1]?.slice(2)).toEqual(ours[3]?.slice(2));
  });

  it('the Redis engine sends nothing for a request without time left', async () => {
    const server = await startForTest();
    const engine = engineOn(server.url);
    await engine.run(count, ['counter'], 1);
    const spent = new Deadline(0);
    await expect(engine.run(count, ['counter'], 1, spent)).rejects.toBeInstanceOf(ConnectionError);
    expect(await counter(server.url)).toBe(1);
  });

  it('the error of a failed operation contains the error of Redis and the name of the operation', async () => {
    const server = await startForTest();
    const engine = engineOn(server.url);
    await withPlainClient(server.url, (client) => client.lPush('counter', 'x'));
    const error = await engine.run(count, ['counter'], 1).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: 'StoreError', code: 'ERR_REDIS_KIT_REPLY' });
    expect(String(error)).toMatch(/test-count failed: .*WRONGTYPE/);
  });

  it('error replies of Redis do not open the breaker', async () => {
    const server = await startForTest();
    const engine = engineOn(server.url);
    await withPlainClient(server.url, (client) => client.lPush('wrong', 'x'));
    for (let turn = 0; turn < 10; turn++) {
      await expect(engine.run(count, ['wrong'], 1)).rejects.toThrow(/WRONGTYPE/);
    }
    expect(await engine.run(count, ['counter'], 1)).toBe(1);
  });
});
