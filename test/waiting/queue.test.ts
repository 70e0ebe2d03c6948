import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Keys } from '../../src/base/keys.ts';
import { concurrencyAcquire } from '../../src/concurrency/operations/acquire.ts';
import { concurrencyRelease } from '../../src/concurrency/operations/release.ts';
import { concurrencyRenew } from '../../src/concurrency/operations/renew.ts';
import { lockAcquire } from '../../src/lock/operations/acquire.ts';
import { lockRelease } from '../../src/lock/operations/release.ts';
import { type BothEngines, startBothEngines } from '../support/both-engines.ts';
import { redisUrl } from '../support/context.ts';
import { connectPlainClient, type PlainClient } from '../support/plain-client.ts';
import { until } from '../support/until.ts';

let both: BothEngines;
let subscriber: PlainClient;
let tests = 0;

beforeAll(async () => {
  both = await startBothEngines();
  subscriber = await connectPlainClient(redisUrl());
});

afterAll(async () => {
  subscriber.destroy();
  await both.stop();
});

const HOUR = 3_600_000;

describe.each(['memory', 'redis'] as const)('A queue in the %s engine', (name) => {
  /** A lock and a limit of their own, and the messages of their queues as `'<process> <word>:<token>'`. */
  async function start() {
    const { [name]: engine, keyspace, prefix, clock } = both;
    const channels = `${prefix}:${name}-${tests++}:`;
    const messages: string[] = [];
    const record = (message: string, channel: string) =>
      void messages.push(`${channel.slice(channels.length)} ${message}`);
    const pattern = `${channels}*`;
    if (name === 'redis') await subscriber.pSubscribe(pattern, record);
    else keyspace.subscribe({ pattern }, { onMessage: record, onStatus: () => undefined });
    const keys = new Keys(channels);
    const { lock, line, fence } = keys.lock('a');
    const { slots, line: slotLine } = keys.concurrency('a', 'n');
    const of = (token: string, process: string, waitMs = HOUR) => ({ token, process, waitMs, channels });
    const slot = { limit: 2, lease: HOUR, maxQueue: 9 };
    return {
      clock,
      acquire: (token: string, process: string, waitMs?: number) =>
        engine.run(lockAcquire, [lock, line, fence], {
          ...of(token, process, waitMs),
          ...{ lease: HOUR, metadata: '', isFair: true },
        }),
      release: (token: string, process: string) =>
        engine.run(lockRelease, [lock, line], { ...of(token, process), isFair: true }),
      acquireSlot: (token: string, process: string) =>
        engine.run(concurrencyAcquire, [slots, slotLine], { ...of(token, process), ...slot }),
      renewSlot: (token: string, process: string) =>
        engine.run(concurrencyRenew, [slots, slotLine], { ...of(token, process), ...slot }),
      releaseSlot: (token: string, process: string) =>
        engine.run(concurrencyRelease, [slots, slotLine], { ...of(token, process), ...slot }),
      /** The messages so far, in their order. */
      async messages(): Promise<readonly string[]> {
        await both[name].publish(`${channels}end`, 'of messages');
        await until('the messages have arrived', () => messages.at(-1) === 'end of messages');
        return messages.splice(0).slice(0, -1);
      },
    };
  }

  it('a handoff notifies the first waiter of each other process', async () => {
    const { acquire, release, messages } = await start();
    await acquire('holder', 'H');
    for (const waiter of ['A1', 'A2', 'B1', 'C1', 'B2', 'A3']) await acquire(waiter, waiter.charAt(0));
    await release('holder', 'H');
    expect(await messages()).toEqual(['A now:A1', 'B soon:B1', 'C soon:C1']);
  });

  it('a handoff to the only process that waits sends one message', async () => {
    const { acquire, release, messages } = await start();
    await acquire('holder', 'A');
    for (const waiter of ['A1', 'A2', 'A3']) await acquire(waiter, 'A');
    await release('holder', 'A');
    expect(await messages()).toEqual(['A now:A1']);
  });

  it('a handoff notifies no waiter whose wait ends before the handoff', async () => {
    const { acquire, release, messages } = await start();
    await acquire('holder', 'H');
    await acquire('A1', 'A');
    await acquire('B1', 'B', 1_000);
    await acquire('B2', 'B', 1_001);
    await release('holder', 'H');
    expect(await messages()).toEqual(['A now:A1', 'B soon:B2']);
  });

  it('a handoff in a long queue searches 16 waiters at each end', async () => {
    const { acquire, release, messages } = await start();
    await acquire('holder', 'H');
    // The first waiter leaves the queue when it is woken.
    for (let place = 0; place <= 40; place++) await acquire(`waiter${place}`, `P${place}`);
    await release('holder', 'H');
    const soon = [...Array(16).keys(), ...Array.from({ length: 16 }, (_, index) => 24 + index)];
    expect(await messages()).toEqual([
      'P0 now:waiter0',
      ...soon.map((index) => `P${index + 1} soon:waiter${index + 1}`),
    ]);
  });

  it('the renewal of a slot hands an unconfirmed handoff on to the next waiter', async () => {
    const { acquireSlot, renewSlot, releaseSlot, messages, clock } = await start();
    for (const token of ['first', 'second']) await acquireSlot(token, 'H');
    for (const waiter of ['A1', 'A2', 'B1']) await acquireSlot(waiter, waiter.charAt(0));
    await releaseSlot('first', 'H');
    expect(await messages()).toEqual(['A now:A1', 'B soon:B1']);
    clock.time += 1_000;
    await renewSlot('second', 'H');
    expect(await messages()).toEqual(['A now:A2', 'B now:B1']);
    expect(await acquireSlot('B1', 'B')).toMatchObject({ outcome: 'granted', running: 2 });
  });
});
