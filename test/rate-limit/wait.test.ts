import { once } from 'node:events';
import { request as open } from 'node:http';
import express from 'express';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { Decision, KitOptions, Limiter, RateLimitOptions, RedisKit } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { kitForTest, testPrefix } from '../support/kits.ts';
import { startRedis } from '../support/servers.ts';
import { onEveryStore } from '../support/stores.ts';
import { passTime, passTimeUntilSettled, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';
import { countCommands } from '../support/wire.ts';

const WINDOW = { algorithm: 'sliding-window', limit: 2, window: '1m', name: 'window' } as const;
const BUCKET = {
  algorithm: 'token-bucket',
  capacity: 2,
  refill: { tokens: 2, per: '1m' },
  name: 'bucket',
} as const;
const WAIT = { wait: '2m', denyCache: false, key: () => 'ann' } as const;

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** Decisions in the order in which they settle. */
class Arrivals {
  readonly decisions: (Decision & { readonly name: string })[] = [];
  #open = 0;

  add(name: string, decision: Promise<Decision>): void {
    this.#open++;
    const settled = decision.then((each) => void this.decisions.push({ ...each, name }));
    settled.catch(() => undefined).finally(() => this.#open--);
  }

  get names(): readonly string[] {
    return this.decisions.map(({ name }) => name);
  }

  /** Waits until so many decisions have settled. */
  async settled(count: number): Promise<void> {
    await until(`${count} decisions have settled`, () => this.decisions.length >= count);
  }
}

/** Waits until the replies to the commands of a limiter have arrived, so that its requests wait. */
async function replied(limiter: Limiter): Promise<void> {
  await limiter.peek('ann');
}

onEveryStore('a limiter with the option `wait`', (kitOf) => {
  beforeEach(async () => {
    // A script that Redis does not have yet is sent twice, and another command could overtake it.
    for (const policies of [[WINDOW], [BUCKET], [WINDOW, { ...WINDOW, name: 'second' }, BUCKET]]) {
      const { limiter } = kitOf().rateLimit({ ...WAIT, policies });
      await limiter.consume('ann');
      await limiter.peek('ann');
      await limiter.reset('ann');
    }
    stopTime();
  });

  it('requests wait for the units of a window in the order of their arrival', async () => {
    const { limiter } = kitOf().rateLimit({ ...WINDOW, ...WAIT });
    const arrivals = new Arrivals();
    for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) {
      arrivals.add(name, limiter.consume('ann'));
      await replied(limiter);
      await passTime(SECOND);
    }
    await arrivals.settled(2);
    await passTime(54 * SECOND - 1);
    expect(arrivals.names).toEqual(['a', 'b']);
    await passTime(2);
    await arrivals.settled(3);
    await passTime(SECOND);
    await arrivals.settled(4);
    expect(arrivals.names).toEqual(['a', 'b', 'c', 'd']);
    await passTime(59 * SECOND);
    await arrivals.settled(5);
    await passTime(SECOND);
    await arrivals.settled(6);
    expect(arrivals.names).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
    const waits = arrivals.decisions.map(({ waitedMs }) => Math.floor(waitedMs / SECOND));
    expect(waits).toEqual([0, 0, 58, 58, 116, 116]);
  });

  it('requests wait for the tokens of a bucket in the order of their arrival', async () => {
    const { limiter } = kitOf().rateLimit({ ...BUCKET, ...WAIT });
    const arrivals = new Arrivals();
    for (const name of ['a', 'b', 'c', 'd']) {
      arrivals.add(name, limiter.consume('ann', { cost: name === 'c' ? 2 : 1 }));
      await replied(limiter);
      await passTime(1);
    }
    await arrivals.settled(2);
    await passTime(MINUTE - 5);
    expect(arrivals.names).toEqual(['a', 'b']);
    await passTime(3);
    await arrivals.settled(3);
    await passTime(30 * SECOND + 1);
    await arrivals.settled(4);
    expect(arrivals.names).toEqual(['a', 'b', 'c', 'd']);
  });

  it('a request whose units come back after `wait` is refused at once', async () => {
    const { limiter } = kitOf().rateLimit({ ...WINDOW, ...WAIT, wait: '1m' });
    const arrivals = new Arrivals();
    for (const name of ['a', 'b', 'c', 'd']) arrivals.add(name, limiter.consume('ann'));
    await replied(limiter);
    expect(await limiter.consume('ann')).toMatchObject({
      allowed: false,
      used: 4,
      remaining: 0,
      retryAfterMs: 2 * MINUTE,
      waitedMs: 0,
    });
    expect(await limiter.consume('ann', { cost: 3 })).toMatchObject({ allowed: false, retryAfterMs: null });
    await passTime(MINUTE + 1);
    await arrivals.settled(4);
    expect(arrivals.decisions.every(({ allowed, degraded }) => allowed && !degraded)).toBe(true);
  });

  it('a decision that has waited describes the quota after the wait', async () => {
    const { limiter } = kitOf().rateLimit({ ...WINDOW, ...WAIT });
    await limiter.consume('ann', { cost: 2 });
    await passTime(10 * SECOND);
    const decision = await passTimeUntilSettled(limiter.consume('ann', { cost: 2 }), SECOND);
    expect(decision).toMatchObject({ allowed: true, cost: 2, limit: 2, remaining: 0, retryAfterMs: null });
    expect(Math.floor(decision.waitedMs / SECOND)).toBeGreaterThanOrEqual(50);
    expect(decision.resetMs).toBeLessThanOrEqual(MINUTE);
    expect(decision.policies).toMatchObject([{ resetMs: decision.resetMs }]);
    await limiter.settle(decision, 1);
    expect(await limiter.peek('ann')).toMatchObject({ used: 1 });
  });

  it('requests of all policies wait for the slowest of them', async () => {
    const second = { ...WINDOW, limit: 1, window: '10s', name: 'second' } as const;
    const { limiter } = kitOf().rateLimit({
      ...WAIT,
      policies: [WINDOW, second, { ...BUCKET, capacity: 9 }],
    });
    const arrivals = new Arrivals();
    for (const name of ['a', 'b', 'c']) {
      arrivals.add(name, limiter.consume('ann'));
      await replied(limiter);
      await passTime(1);
    }
    await arrivals.settled(1);
    await passTime(10 * SECOND);
    await arrivals.settled(2);
    await passTime(49 * SECOND);
    expect(arrivals.names).toEqual(['a', 'b']);
    await passTime(SECOND);
    await arrivals.settled(3);
  });

  it('a request beyond `maxQueue` is refused, and does not pass those that wait', async () => {
    const { limiter } = kitOf().rateLimit({ ...WINDOW, ...WAIT, maxQueue: 1 });
    const first = await limiter.consume('ann', { cost: 2 });
    const arrivals = new Arrivals();
    arrivals.add('waiter', limiter.consume('ann', { cost: 2 }));
    await until('the request waits', async () => (await limiter.peek('ann')).used === 4);
    expect(await limiter.consume('ann')).toMatchObject({ allowed: false, used: 4 });
    // The refund makes space for one unit now, but the units of the waiting request are granted for later.
    await limiter.refund(first);
    expect(await limiter.consume('ann', { cost: 1 })).toMatchObject({ allowed: false, used: 2 });
    await limiter.consume('bob');
    await passTime(MINUTE + 1);
    await arrivals.settled(1);
  });

  it('a refusal applies again only until the request could wait', async () => {
    const { limiter } = kitOf().rateLimit({ ...WINDOW, ...WAIT, wait: '10s', denyCache: { maxAge: '1h' } });
    await limiter.consume('ann', { cost: 2 });
    expect(await limiter.consume('ann')).toMatchObject({ allowed: false, retryAfterMs: MINUTE });
    await passTime(49 * SECOND);
    expect(await limiter.consume('ann')).toMatchObject({ allowed: false, retryAfterMs: 11 * SECOND });
    await passTime(SECOND);
    const decision = await passTimeUntilSettled(limiter.consume('ann'), SECOND);
    expect(decision).toMatchObject({ allowed: true });
    expect(decision.waitedMs).toBeGreaterThanOrEqual(9 * SECOND);
  });

  it('shadow mode delays no request, and reports as refused only what could not wait', async () => {
    const limit = kitOf().rateLimit({ ...WINDOW, ...WAIT, wait: '1m', shadow: true });
    const app = express().use(limit, (req, res) => res.json(req.rateLimit));
    const url = await serve(app);
    const decisions = [];
    for (let index = 0; index < 5; index++) decisions.push(JSON.parse((await send(url)).text));
    expect(decisions.map(({ allowed, waitedMs }) => [allowed, waitedMs])).toEqual([
      [true, 0],
      [true, 0],
      [true, MINUTE],
      [true, MINUTE],
      [false, 0],
    ]);
  });
});

describe('kit.rateLimit with the option `wait`', () => {
  /** An app with one unit per hour, which is used, and a request that waits for the next one. */
  async function appWithWaiter(options: KitOptions = { url: 'memory:' }) {
    const kit = kitForTest(options);
    const limit = kit.rateLimit({ ...WINDOW, ...WAIT, limit: 1, window: '1h', wait: '1h' });
    const handled: unknown[] = [];
    const app = express().use(limit, (req, res) => {
      handled.push(req.rateLimit?.waitedMs);
      res.end('ok');
    });
    const url = await serve(app);
    await send(url);
    const waiter = open(url, { agent: false });
    const failed = once(waiter, 'error');
    const answered = once(waiter, 'response');
    answered.catch(() => undefined);
    waiter.end();
    const used = async () => (await limit.limiter.peek('ann')).used;
    await until('the request waits', async () => (await used()) === 2);
    return { kit, handled, waiter, failed, answered, used };
  }

  it('the units of a client that leaves while it waits are refunded, and its request is not handled', async () => {
    const { waiter, failed, used, handled } = await appWithWaiter();
    waiter.destroy();
    await failed.catch(() => undefined);
    await until('the units are refunded', async () => (await used()) === 1);
    expect(handled).toEqual([0]);
  });

  it('a request that waits while the kit is closed is answered with 503', async () => {
    const { kit, answered } = await appWithWaiter();
    await kit.close();
    const [response] = await answered;
    expect(response.statusCode).toBe(503);
    response.resume();
  });

  it('a call that waits while the kit is closed rejects', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const { limiter } = kit.rateLimit({ ...WINDOW, ...WAIT });
    await limiter.consume('ann', { cost: 2 });
    const waiting = limiter.consume('ann');
    waiting.catch(() => undefined);
    await until('the call waits', async () => (await limiter.peek('ann')).used === 3);
    await kit.close();
    await expect(waiting).rejects.toThrow('the kit is closed');
  });
});

describeWithServers('waiting requests in Redis', () => {
  async function serverWithKit(options: KitOptions = {}) {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const kit = kitForTest({ url: server.url, prefix: testPrefix(), ...options } as KitOptions);
    await kit.ready();
    return { server, kit };
  }

  const limiterOf = (kit: RedisKit, options: Partial<RateLimitOptions> = {}) =>
    kit.rateLimit({ ...WINDOW, ...WAIT, ...options } as RateLimitOptions).limiter;

  it('a request that waits costs one command', async () => {
    const { kit, server } = await serverWithKit();
    stopTime();
    const limiter = limiterOf(kit);
    await limiter.consume('bob');
    await limiter.peek('bob');
    const commands = await countCommands(server.url, async () => {
      const arrivals = new Arrivals();
      for (const name of ['a', 'b', 'c', 'd']) arrivals.add(name, limiter.consume('ann'));
      await replied(limiter);
      await passTime(MINUTE + 1);
      await arrivals.settled(4);
    });
    // The fifth command is the peek of the test.
    expect(commands.map(([name]) => name)).toEqual(Array(5).fill('EVALSHA'));
  });

  it('requests of several processes continue in the order of their arrival', async () => {
    const { kit, server } = await serverWithKit();
    const other = kitForTest({ url: server.url, prefix: kit.prefix });
    await other.ready();
    stopTime();
    const limiters = [limiterOf(kit, { wait: '1h' }), limiterOf(other, { wait: '1h' })];
    const arrivals = new Arrivals();
    const names = Array.from({ length: 12 }, (_, index) => `r${index}`);
    for (const [index, name] of names.entries()) {
      const limiter = limiters[index % 2];
      if (limiter === undefined) continue;
      arrivals.add(name, limiter.consume('ann'));
      await replied(limiter);
    }
    await passTime(1);
    for (let count = 2; count <= 12; count += 2) {
      await arrivals.settled(count);
      expect(arrivals.names.toSorted()).toEqual(names.slice(0, count).toSorted());
      await passTime(MINUTE);
    }
  });

  it('closing the kit refunds the units of its waiting requests', async () => {
    const { kit, server } = await serverWithKit();
    const other = kitForTest({ url: server.url, prefix: kit.prefix });
    const [limiter, watcher] = [limiterOf(kit), limiterOf(other)];
    await limiter.consume('ann', { cost: 2 });
    const waiting = limiter.consume('ann');
    await until('the call waits', async () => (await watcher.peek('ann')).used === 3);
    await Promise.all([expect(waiting).rejects.toThrow('the kit is closed'), kit.close()]);
    expect(await watcher.peek('ann')).toMatchObject({ used: 2, degraded: false });
  });

  it('requests wait for the in-process fallback while Redis is down', async () => {
    const { kit, server } = await serverWithKit({ commandTimeout: '200ms' });
    const limiter = limiterOf(kit, { window: '300ms' });
    await limiter.consume('ann');
    await server.stop();
    const decisions = await Promise.all(Array.from({ length: 4 }, () => limiter.consume('ann')));
    expect(decisions.every(({ allowed, degraded }) => allowed && degraded)).toBe(true);
    const waits = decisions.map(({ waitedMs }) => waitedMs);
    expect(waits.slice(0, 2)).toEqual([0, 0]);
    expect(Math.min(...waits.slice(2))).toBeGreaterThan(0);
  });
});
