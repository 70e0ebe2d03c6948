import { expect, it, onTestFinished, vi } from 'vitest';
import { Breaker } from '../../src/connection/breaker.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { startProxy } from '../support/proxy.ts';
import { startRedis } from '../support/servers.ts';
import { keepingLogger } from '../support/stores.ts';
import { until } from '../support/until.ts';

async function startForTest() {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const proxy = await startProxy(server);
  const logger = keepingLogger();
  const kit = kitForTest({ url: proxy.url, commandTimeout: '500ms', logger });
  const limiter = kit.limiter({ algorithm: 'sliding-window', limit: 1_000_000, window: '1h', name: 'a' });
  const breaker = eventsOf(kit, 'connection:breaker');
  const degraded = eventsOf(kit, 'rate:degraded');
  const errors = eventsOf(kit, 'error');
  await kit.ready();
  await limiter.consume('ann');

  /** Sends requests until the node was probed this often. */
  async function probed(times: number): Promise<void> {
    const before = proxy.pings;
    await until(`the node was probed ${times} times`, async () => {
      await Promise.all(Array.from({ length: 4 }, () => limiter.consume('ann')));
      return proxy.pings - before >= times;
    });
  }

  function expectOneOutage(): void {
    expect(breaker).toEqual([{ node: 'redis', state: 'open' }]);
    expect(degraded).toHaveLength(1);
    const kinds = new Map<string, number>();
    for (const line of logger.lines) kinds.set(line, (kinds.get(line) ?? 0) + 1);
    expect([...kinds.keys()].filter((line) => !line.startsWith('connected')).sort()).toEqual([
      'Redis at 127.0.0.1 does not answer; until it is back: rate decides in this process',
      'rate: Redis did not answer within 500 ms',
    ]);
    for (const [line, times] of kinds) expect(times, line).toBe(1);
    expect(errors).toHaveLength(1);
  }

  async function expectRecovery(): Promise<void> {
    await until('Redis decides again', async () => !(await limiter.consume('ann')).degraded);
    expect(breaker.map(({ state }) => state)).toEqual(['open', 'closed']);
  }

  return { proxy, probed, expectOneOutage, expectRecovery };
}

describeWithServers('a Redis that does not answer commands within the deadline', () => {
  it('a Redis that answers too late is reported as one outage until it answers in time', async () => {
    const { proxy, probed, expectOneOutage, expectRecovery } = await startForTest();
    proxy.delayReplies(600);
    await probed(6);
    expectOneOutage();
    proxy.delayReplies(0);
    await expectRecovery();
  });
});

/** A breaker whose probes the test answers; `answer` takes the duration of the answer. */
function breakerForTest() {
  let now = 0;
  const spy = vi.spyOn(performance, 'now').mockImplementation(() => now);
  onTestFinished(() => spy.mockRestore());
  const reported: boolean[] = [];
  let resolve: (() => void) | undefined;
  let questions = 0;
  const breaker = new Breaker({
    timeoutMs: 500,
    probe() {
      questions++;
      return new Promise<void>((done) => {
        resolve = done;
      });
    },
    unanswered: () => undefined,
    changed: (isOpen) => reported.push(isOpen),
    refuses: () => undefined,
  });
  async function answer(...durations: readonly number[]): Promise<void> {
    for (const ms of durations) {
      now += ms;
      resolve?.();
      await new Promise(setImmediate);
    }
  }
  return { breaker, reported, answer, questions: () => questions };
}

it('a breaker allows commands again after three consecutive probes are answered in time', async () => {
  const { breaker, reported, answer, questions } = breakerForTest();
  for (let times = 0; times < 3; times++) breaker.failed('a');
  expect(breaker.isOpen).toBe(true);
  await answer(501, 400, 501, 400, 400, 60_000, 500, 500);
  expect(breaker.isOpen).toBe(true);
  expect(questions(), 'one at a time').toBe(9);
  await answer(500);
  expect(breaker.isOpen).toBe(false);
  expect(reported, 'no command has been answered yet').toEqual([true]);
  breaker.succeeded();
  expect(reported).toEqual([true, false]);
});

it('a breaker whose first command after the probes fails opens again without another report', async () => {
  const { breaker, reported, answer } = breakerForTest();
  for (let times = 0; times < 3; times++) breaker.failed('a');
  await answer(1, 1, 1);
  expect([breaker.isOpen, breaker.isOnTrial]).toEqual([false, true]);
  breaker.failed('a');
  expect(breaker.isOpen).toBe(true);
  breaker.probeNow();
  await answer(1, 1, 1);
  breaker.succeeded();
  for (let times = 0; times < 2; times++) breaker.failed('a');
  expect([breaker.isOpen, breaker.isOnTrial]).toEqual([false, false]);
  expect(reported).toEqual([true, false]);
});
