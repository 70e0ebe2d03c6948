import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import { startProgram } from '../support/program.ts';
import {
  connectedClients,
  connectionsSoFar,
  publisherFor,
  recordChannel,
  startAll,
  startServerForTest,
} from '../support/pub-sub.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';

describeWithServers('a subscriber connection that is closed', () => {
  it('a subscriber connection that is closed reports its channels as down and ignores later subscriptions', async () => {
    const { server, connection, pubSub, publisher } = await startAll();
    const recorder = recordChannel(pubSub, 'a');
    await until('it is up', () => recorder.isUp);
    await connection.close(1_000);
    expect(recorder.changes).toEqual([true, false]);
    const late = recordChannel(pubSub, 'a');
    await until('only the publisher is connected', async () => (await connectedClients(server.url)) === 1);
    await publisher.publish('a', 'unheard');
    late.stop();
    recorder.stop();
    expect([recorder.messages, late.messages, late.changes]).toEqual([[], [], []]);
  });

  it.each([0, 300])(
    'a subscriber connection can be closed while it connects to a frozen server (after %i ms)',
    async (ms) => {
      const { server, connection, pubSub } = await startAll();
      server.freeze();
      const recorder = recordChannel(pubSub, 'a');
      await pause(ms);
      const elapsedMs = stopwatch();
      await connection.close(1_000);
      expect(elapsedMs()).toBeLessThan(2_000);
      server.thaw();
      await until('only the publisher is connected', async () => (await connectedClients(server.url)) === 1);
      expect(recorder.changes).toEqual([]);
    },
  );

  it('a subscriber connection that is closed while it waits to reconnect does not reconnect', async () => {
    const { server, connection, pubSub } = await startAll();
    const recorder = recordChannel(pubSub, 'a');
    await until('it is up', () => recorder.isUp);
    await server.kill();
    await until('it is down', () => !recorder.isUp);
    await connection.close(1_000);
    await server.restart();
    const publisher = await publisherFor(server);
    const before = await connectionsSoFar(publisher);
    await pause(700);
    expect(await connectionsSoFar(publisher)).toBe(before);
    expect(recorder.changes).toEqual([true, false]);
  });

  const CONNECT = `
    import { openConnection } from './test/support/connection.ts';
    const open = (options) => openConnection(options, 1_000);
    const recorder = { onMessage() {}, onStatus(isUp) { if (isUp) console.log('up'); } };
  `;

  it('a process ends by itself after its subscriber connection is closed, even if it was still connecting', async () => {
    const server = await startServerForTest();
    const { code, said } = await startProgram(`${CONNECT}
      const options = { host: '127.0.0.1', port: ${server.port} };
      for (let turns = 0; turns < 60; turns += 3) {
        const connection = open(options);
        await connection.ready();
        connection.pubSub.subscribe('a', { onMessage() {}, onStatus() {} });
        for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
        await connection.close(1_000);
      }
      process.kill(${server.pid}, 'SIGSTOP');
      const { stopwatch } = await import('./test/support/stopwatch.ts');
      const elapsedMs = stopwatch();
      process.on('exit', () => console.log(elapsedMs() < 4_000 ? 'soon' : 'late'));
    `).ended;
    expect({ code, said }).toEqual({ code: 0, said: 'soon' });
  });

  it('a process ends by itself while its subscriber connection is open', async () => {
    const server = await startServerForTest();
    const { code, said } = await startProgram(`${CONNECT}
      import { createClient } from 'redis';
      const client = createClient({ url: '${server.url}' });
      client.unref();
      const busy = setInterval(() => {}, 1_000);
      await client.connect();
      const connection = open({ client });
      await new Promise((resolve) => {
        connection.pubSub.subscribe('a', { onMessage() {}, onStatus: resolve });
      });
      clearInterval(busy);
      console.log('up');
    `).ended;
    expect({ code, said }).toEqual({ code: 0, said: 'up' });
  });
});
