import { expect, it, onTestFinished } from 'vitest';
import { Keys } from '../../src/base/keys.ts';
import { concurrencyAcquire } from '../../src/concurrency/operations/acquire.ts';
import { concurrencyRelease } from '../../src/concurrency/operations/release.ts';
import type { Operation } from '../../src/engine/operation.ts';
import { idempotencyBegin } from '../../src/idempotency/operations/begin.ts';
import { idempotencyComplete } from '../../src/idempotency/operations/complete.ts';
import { lockAcquire } from '../../src/lock/operations/acquire.ts';
import { lockRelease } from '../../src/lock/operations/release.ts';
import { logAppend } from '../../src/log/operations/append.ts';
import { logRead } from '../../src/log/operations/read.ts';
import { startBothEngines } from '../support/both-engines.ts';
import { describeWithServers } from '../support/context.ts';
import { startRedis } from '../support/servers.ts';

const WAITER = { token: 'token', process: 'process', channels: 'calls:', waitMs: 5_000 } as const;
const LOCK = { ...WAITER, lease: 15_000, metadata: '', isFair: true } as const;
const SLOT = { ...WAITER, lease: 15_000, limit: 5, maxQueue: 9 } as const;
const ATTEMPT = { token: 'token', fingerprint: Buffer.alloc(32), retention: 60_000 } as const;

describeWithServers('The calls of a script inside Redis', () => {
  /** Starts a server of its own, and returns a function that counts the calls of one run of an operation. */
  async function start() {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const { client, clock, redis, stop } = await startBothEngines(server.url);
    onTestFinished(stop);

    return async <Args>(operation: Operation<Args, unknown>, keys: readonly string[], args: Args) => {
      // A fencing token that is not higher than the last would cost one more call.
      clock.time += 1;
      await client.scriptLoad(operation.lua);
      await client.configResetStat();
      await redis.run(operation, keys, args);
      const stats = await client.info('commandstats');
      const calls = [...stats.matchAll(/cmdstat_([a-z]+):calls=(\d+)/g)].map(([, name, count]) => [
        name,
        count,
      ]);
      return Object.fromEntries(calls.filter(([name]) => name !== 'evalsha' && name !== 'config'));
    };
  }

  it('a lock without waiters is acquired with four calls and released with three', async () => {
    const count = await start();
    const { lock, line, fence } = new Keys('t').lock('a');
    for (let turn = 0; turn < 2; turn++) {
      expect(await count(lockAcquire, [lock, line, fence], LOCK)).toEqual({ get: '1', zcard: '1', set: '2' });
      expect(await count(lockRelease, [lock, line], LOCK)).toEqual({ get: '1', zcard: '1', del: '1' });
    }
  });

  it('a slot without waiters is acquired with nine calls at most and released with five', async () => {
    const count = await start();
    const { slots, line } = new Keys('t').concurrency('a', 'n');
    const write = { zadd: '1', pexpire: '1', zrange: '2' };
    const visit = { zrangebyscore: '1', zremrangebyscore: '1', zrem: '1', zcard: '2' };
    expect(await count(concurrencyAcquire, [slots, line], SLOT)).toEqual({ zcard: '2', ...write });
    const second = { ...SLOT, token: 'second' };
    expect(await count(concurrencyAcquire, [slots, line], second)).toEqual({ ...visit, ...write });
    expect(await count(concurrencyRelease, [slots, line], SLOT)).toEqual(visit);
  });

  it('an event is appended to a log with four calls, and events are read with one', async () => {
    const count = await start();
    const log = [new Keys('t').log('chat', 'a')];
    const append = { limit: 10, ttlMs: 60_000, text: '1' };
    await count(logAppend, log, append);
    // The script looks up the last id only because a test passes its time.
    const { exists, ...calls } = await count(logAppend, log, append);
    expect(exists).toBe('1');
    expect(calls).toEqual({ xrevrange: '1', xadd: '1', pexpire: '1', publish: '1' });
    expect(await count(logRead, log, { after: undefined, count: 10 })).toEqual({ xrevrange: '1' });
    expect(await count(logRead, log, { after: '0-0', count: 10 })).toEqual({ xrange: '1' });
  });

  it('an idempotency key is claimed and its response is recorded with two calls each', async () => {
    const count = await start();
    const record = [new Keys('t').idempotency('scope', 'key')];
    const begin = { ...ATTEMPT, lease: 30_000, waits: false };
    expect(await count(idempotencyBegin, record, begin)).toEqual({ get: '1', set: '1' });
    const complete = { ...ATTEMPT, attempt: 1, channel: 'ended', response: Buffer.from('response') };
    expect(await count(idempotencyComplete, record, complete)).toEqual({ get: '1', set: '1' });
  });
});
