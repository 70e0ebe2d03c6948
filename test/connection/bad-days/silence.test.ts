import type { EventEmitter } from 'node:events';
import { createClient } from 'redis';
import { expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../../support/context.ts';
import { eventsOf, kitForTest } from '../../support/kits.ts';
import { startProxy } from '../../support/proxy.ts';
import { startRedis } from '../../support/servers.ts';
import { until } from '../../support/until.ts';

/** Longer than the silence after which a socket is dead. */
const BLOCKED_MS = 5_500;

async function startForTest(isBorrowed = false) {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const proxy = await startProxy(server);
  const borrowed = createClient({ url: proxy.url, pingInterval: 500, disableOfflineQueue: true });
  if (isBorrowed) await borrowed.on('error', () => undefined).connect();
  onTestFinished(() => borrowed.destroy());
  const where = isBorrowed ? { client: borrowed } : { url: proxy.url };
  const kit = kitForTest({ ...where, commandTimeout: '500ms' });
  const downs = eventsOf(kit, 'connection:down');
  const limiter = kit.limiter({ algorithm: 'sliding-window', limit: 1_000, window: '1h', name: 'a' });
  await kit.ready();
  await limiter.consume('ann');
  return { server, proxy, kit, downs, limiter, client: kit.client as unknown as EventEmitter };
}

/** Not `once` of node:events, which rejects with the error that ended the socket. */
function reconnecting(client: EventEmitter): Promise<unknown> {
  return new Promise((resolve) => client.once('reconnecting', resolve));
}

describeWithServers('the silence of a connection', () => {
  it.each([
    ['an own', false],
    ['a borrowed', true],
  ])(
    'a lost socket of %s client is no outage, also if a heartbeat was unanswered',
    async (_whose, isBorrowed) => {
      const { proxy, downs, limiter, client } = await startForTest(isBorrowed);
      for (let loss = 1; loss <= 3; loss++) {
        const pings = proxy.pings;
        proxy.delayReplies(60_000);
        await until('a heartbeat is under way', () => proxy.pings > pings);
        proxy.delayReplies(0);
        const isLost = reconnecting(client);
        proxy.sever();
        proxy.mend();
        await isLost;
        expect((await limiter.consume('ann')).degraded).toBe(false);
      }
      expect(downs).toEqual([]);
    },
  );

  it('the first request after a freeze works, also if the socket was replaced meanwhile', async () => {
    const { server, limiter, client } = await startForTest();
    const isReplaced = reconnecting(client);
    server.freeze();
    await isReplaced;
    server.thaw();
    await until('it is connected again', () => Reflect.get(client, 'isReady') === true);
    expect((await limiter.consume('ann')).degraded).toBe(false);
  });

  it('a socket stays open while replies arrive, however long a heartbeat waits behind them', async () => {
    const { kit, client } = await startForTest();
    let reconnects = 0;
    client.on('reconnecting', () => reconnects++);
    const { sendCommand } = kit.client as unknown as {
      sendCommand(command: readonly string[]): Promise<unknown>;
    };
    // Redis runs the commands of a connection one after the other.
    const slow = Array.from({ length: 16 }, () =>
      Reflect.apply(sendCommand, kit.client, [['BLPOP', `${kit.prefix}-absent`, '0.5']]),
    );
    expect(await Promise.allSettled(slow)).toEqual(Array(16).fill({ status: 'fulfilled', value: null }));
    expect(reconnects).toBe(0);
  });

  it('a socket stays open while the event loop is blocked, and no command fails', async () => {
    const { downs, kit, limiter, client } = await startForTest();
    const breaker = eventsOf(kit, 'connection:breaker');
    let reconnects = 0;
    client.on('reconnecting', () => reconnects++);
    const isWritten = new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    const decisions = ['a', 'b', 'c', 'd', 'e'].map((id) => limiter.consume(id));
    await isWritten;
    const end = performance.now() + BLOCKED_MS;
    while (performance.now() < end) Math.random();
    for (const { degraded } of await Promise.all(decisions)) expect(degraded).toBe(false);
    expect((await limiter.consume('ann')).degraded).toBe(false);
    expect([downs, breaker, reconnects]).toEqual([[], [], 0]);
  });
});
