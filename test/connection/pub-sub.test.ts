import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import {
  connectedClients,
  connectForTest,
  connectionsSoFar,
  earOn,
  hearsAgain,
  listenersAt,
  publisherFor,
  startAll,
  startServerForTest,
} from '../support/ears.ts';
import { freePort } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';

describeWithServers('a subscriber connection', () => {
  it('the first subscription opens the connection, and all share it', async () => {
    const { server, pubSub, publisher } = await startAll();
    expect(await connectedClients(server.url), 'commands and the publisher').toBe(2);
    const ears = ['a', 'b', 'b'].map((channel) => earOn(pubSub, channel));
    await until('all are up', () => ears.every((ear) => ear.isUp));
    expect(await connectedClients(server.url)).toBe(3);
    await publisher.publish('b', 'for two');
    await publisher.publish('a', 'for one');
    await until('it is heard', () => ears[0]?.messages.length === 1);
    expect(ears.map((ear) => ear.messages)).toEqual([['for one'], ['for two'], ['for two']]);
    expect(ears.map((ear) => ear.changes)).toEqual([[true], [true], [true]]);
  });

  it('a listener receives all published messages, in order, as text', async () => {
    const { pubSub, publisher } = await startAll();
    const ear = earOn(pubSub, 'news');
    await until('it is up', () => ear.isUp);
    const messages = Array.from({ length: 2_000 }, (_, number) => `${number} Grüße ☃ 🎉 \r\n`);
    await Promise.all(messages.map((message) => publisher.publish('news', message)));
    await until('all is heard', () => ear.messages.length === messages.length);
    expect(ear.messages).toEqual(messages);
  });

  it('a channel is up once Redis has acknowledged it, and every later message arrives', async () => {
    const { pubSub, publisher } = await startAll();
    const rounds = 300;
    const heard: string[] = [];
    for (let round = 0; round < rounds; round++) {
      // Each twice in a row: it is left and wanted again while Redis is still being told.
      const channel = `channel ${Math.floor(round / 2)}`;
      await new Promise<void>((resolve, reject) => {
        const stop = pubSub.subscribe(channel, {
          onMessage: (message) => {
            heard.push(message);
            stop();
            resolve();
          },
          onStatus: (isUp) => {
            if (isUp) publisher.publish(channel, `${round}`).catch(reject);
          },
        });
      });
    }
    expect(heard).toEqual(Array.from({ length: rounds }, (_, round) => `${round}`));
  });

  it('a listener is notified that its channel is up before it receives a message', async () => {
    const { pubSub, publisher } = await startAll();
    const told: string[] = [];
    let isOver = false;
    const flood = (async () => {
      while (!isOver)
        await Promise.all(Array.from({ length: 50 }, () => publisher.publish('flood', 'message')));
    })();
    for (let round = 0; round < 50; round++) {
      await new Promise<void>((resolve) => {
        const stop = pubSub.subscribe('flood', {
          onMessage: () => {
            told.push('message');
            stop();
            resolve();
          },
          onStatus: (isUp) => void told.push(isUp ? 'up' : 'down'),
        });
      });
    }
    isOver = true;
    await flood;
    expect(told).toEqual(Array.from({ length: 50 }, () => ['up', 'message']).flat());
  });

  it('the last of many subscribes and unsubscribes takes effect', async () => {
    const { server, pubSub, publisher } = await startAll();
    const first = earOn(pubSub, 'a');
    await until('it is up', () => first.isUp);
    for (let round = 0; round < 100; round++) {
      const ears = ['a', 'b', 'c'].map((channel) => earOn(pubSub, channel));
      if (round % 2 === 0) first.stop();
      if (round % 5 === 0) await turn();
      for (const ear of ears.slice(0, 2)) ear.stop();
      if (round % 3 === 0) await publisher.ping();
      ears[2]?.stop();
    }
    const last = earOn(pubSub, 'b');
    await hearsAgain(last, publisher, 'b');
    expect(last.messages, 'once').toHaveLength(1);
    await until('only that is still subscribed', async () => {
      const channels = await publisher.sendCommand(['PUBSUB', 'CHANNELS']);
      return JSON.stringify(channels) === '["b"]';
    });
    expect(await listenersAt(server.url)).toHaveLength(1);
    last.stop();
    last.stop();
    const later = earOn(pubSub, 'b');
    await hearsAgain(later, publisher, 'b');
    expect(last.messages, 'nothing after stop()').toHaveLength(1);
  });

  it('a listener that throws does not affect others, and its error is reported', async () => {
    const { pubSub, errors, publisher } = await startAll();
    const fail = () => {
      throw new Error('a listener that fails');
    };
    pubSub.subscribe('a', { onMessage: fail, onStatus: fail });
    const rejects = async () => fail();
    pubSub.subscribe('a', { onMessage: rejects, onStatus: rejects });
    const ear = earOn(pubSub, 'a');
    await hearsAgain(ear, publisher, 'a');
    await hearsAgain(ear, publisher, 'a');
    expect(ear.changes).toEqual([true]);
    await until('each failure is told', () => errors.length === 6);
    expect(errors[0]).toMatchObject({ feature: 'connection', error: { message: 'a listener that fails' } });
  });
});

describeWithServers('a subscriber connection that is lost', () => {
  it('a connection that is cut is down at once, and messages arrive again on the next one', async () => {
    const { pubSub, publisher } = await startAll();
    const ears = ['a', 'b'].map((channel) => earOn(pubSub, channel));
    await until('both are up', () => ears.every((ear) => ear.isUp));
    for (let cut = 1; cut <= 3; cut++) {
      await publisher.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub']);
      await until('the loss is told and made good', () =>
        ears.every((ear) => ear.changes.length === 1 + 2 * cut),
      );
      for (const [index, ear] of ears.entries()) await hearsAgain(ear, publisher, 'ab'[index] ?? '');
    }
    expect(ears.map((ear) => ear.changes)).toEqual(
      ears.map(() => [true, false, true, false, true, false, true]),
    );
  });

  it('a lost connection is opened again only while a subscription exists', async () => {
    const { server, pubSub, publisher } = await startAll();
    const ear = earOn(pubSub, 'a');
    await until('it is up', () => ear.isUp);
    const [id = ''] = (await listenersAt(server.url)).map((line) => /^id=(\d+)/.exec(line)?.[1] ?? '');
    ear.stop();
    await until('Redis knows', async () => (await listenersAt(server.url)).length === 0);
    const before = await connectionsSoFar(publisher);
    await publisher.sendCommand(['CLIENT', 'KILL', 'ID', id]);
    // Longer than the pause before another attempt, of which nobody would tell.
    await pause(700);
    expect(await connectionsSoFar(publisher)).toBe(before);
    const later = earOn(pubSub, 'a');
    await hearsAgain(later, publisher, 'a');
    expect(await connectionsSoFar(publisher)).toBe(before + 1);
    expect(ear.changes, 'nothing after stop()').toEqual([true]);
  });

  it('a connection to a frozen server is soon down, even while channels change, and up again when the server continues', async () => {
    const { server, pubSub, publisher } = await startAll();
    const ear = earOn(pubSub, 'a');
    await until('it is up', () => ear.isUp);
    server.freeze();
    const elapsedMs = stopwatch();
    await until('it is down', () => {
      // What is written to a dead connection says nothing about it.
      earOn(pubSub, `b${performance.now()}`);
      return !ear.isUp;
    });
    expect(elapsedMs()).toBeLessThan(8_000);
    server.thaw();
    await hearsAgain(ear, publisher, 'a');
    expect(ear.changes).toEqual([true, false, true]);
  });

  it('a connection stays up however long no message is published', async () => {
    const { pubSub, publisher } = await startAll();
    const ear = earOn(pubSub, 'a');
    await hearsAgain(ear, publisher, 'a');
    // Longer than a connection may be silent.
    await pause(6_500);
    await hearsAgain(ear, publisher, 'a');
    expect(ear.changes).toEqual([true]);
  });

  it('a connection stays up while the event loop is blocked', async () => {
    const { pubSub, publisher } = await startAll();
    const ear = earOn(pubSub, 'a');
    await hearsAgain(ear, publisher, 'a');
    for (const ms of [6_000, 1_500, 1_500]) {
      const end = performance.now() + ms;
      while (performance.now() < end);
      await pause(10);
    }
    await hearsAgain(ear, publisher, 'a');
    expect(ear.changes).toEqual([true]);
  });

  it('messages arrive again after the server was killed and restarted', async () => {
    const { server, pubSub } = await startAll();
    const ear = earOn(pubSub, 'a');
    await until('it is up', () => ear.isUp);
    await server.kill();
    await until('it is down', () => !ear.isUp);
    const late = earOn(pubSub, 'b');
    await server.restart();
    const publisher = await publisherFor(server);
    await hearsAgain(ear, publisher, 'a');
    await hearsAgain(late, publisher, 'b');
    expect([ear.changes, late.changes]).toEqual([[true, false, true], [true]]);
  });

  it('a connection is opened when Redis becomes reachable', async () => {
    const port = await freePort();
    const { pubSub } = connectForTest({ port });
    const ear = earOn(pubSub, 'a');
    const server = await startServerForTest({ port });
    await hearsAgain(ear, await publisherFor(server), 'a');
  });
});
