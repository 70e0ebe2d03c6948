import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import {
  connectedClients,
  connectForTest,
  connectionsSoFar,
  listenersAt,
  publisherFor,
  receivesAgain,
  recordChannel,
  startAll,
  startServerForTest,
} from '../support/pub-sub.ts';
import { freePort } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';

describeWithServers('a subscriber connection', () => {
  it('the first subscription opens the subscriber connection, which all subscriptions share', async () => {
    const { server, pubSub, publisher } = await startAll();
    expect(await connectedClients(server.url), 'commands and the publisher').toBe(2);
    const recorders = ['a', 'b', 'b'].map((channel) => recordChannel(pubSub, channel));
    await until('all are up', () => recorders.every((recorder) => recorder.isUp));
    expect(await connectedClients(server.url)).toBe(3);
    await publisher.publish('b', 'for two');
    await publisher.publish('a', 'for one');
    await until('it is heard', () => recorders[0]?.messages.length === 1);
    expect(recorders.map((recorder) => recorder.messages)).toEqual([['for one'], ['for two'], ['for two']]);
    expect(recorders.map((recorder) => recorder.changes)).toEqual([[true], [true], [true]]);
  });

  it('a listener of a channel receives all published messages in order', async () => {
    const { pubSub, publisher } = await startAll();
    const recorder = recordChannel(pubSub, 'news');
    await until('it is up', () => recorder.isUp);
    const messages = Array.from({ length: 2_000 }, (_, number) => `${number} Grüße ☃ 🎉 \r\n`);
    await Promise.all(messages.map((message) => publisher.publish('news', message)));
    await until('all is heard', () => recorder.messages.length === messages.length);
    expect(recorder.messages).toEqual(messages);
  });

  it('every message that is published after a channel is up arrives', async () => {
    const { pubSub, publisher } = await startAll();
    const rounds = 300;
    const heard: string[] = [];
    for (let round = 0; round < rounds; round++) {
      // Twice in a row: a channel is wanted again while Redis is answering UNSUBSCRIBE.
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
    const calls: string[] = [];
    let isOver = false;
    const flood = (async () => {
      while (!isOver)
        await Promise.all(Array.from({ length: 50 }, () => publisher.publish('flood', 'message')));
    })();
    for (let round = 0; round < 50; round++) {
      await new Promise<void>((resolve) => {
        const stop = pubSub.subscribe('flood', {
          onMessage: () => {
            calls.push('message');
            stop();
            resolve();
          },
          onStatus: (isUp) => void calls.push(isUp ? 'up' : 'down'),
        });
      });
    }
    isOver = true;
    await flood;
    expect(calls).toEqual(Array.from({ length: 50 }, () => ['up', 'message']).flat());
  });

  it('after many subscribes and unsubscribes in a row, only the last one takes effect', async () => {
    const { server, pubSub, publisher } = await startAll();
    const first = recordChannel(pubSub, 'a');
    await until('it is up', () => first.isUp);
    for (let round = 0; round < 100; round++) {
      const recorders = ['a', 'b', 'c'].map((channel) => recordChannel(pubSub, channel));
      if (round % 2 === 0) first.stop();
      if (round % 5 === 0) await turn();
      for (const recorder of recorders.slice(0, 2)) recorder.stop();
      if (round % 3 === 0) await publisher.ping();
      recorders[2]?.stop();
    }
    const last = recordChannel(pubSub, 'b');
    await receivesAgain(last, publisher, 'b');
    expect(last.messages, 'once').toHaveLength(1);
    await until('only that is still subscribed', async () => {
      const channels = await publisher.sendCommand(['PUBSUB', 'CHANNELS']);
      return JSON.stringify(channels) === '["b"]';
    });
    expect(await listenersAt(server.url)).toHaveLength(1);
    last.stop();
    last.stop();
    const later = recordChannel(pubSub, 'b');
    await receivesAgain(later, publisher, 'b');
    expect(last.messages, 'nothing after stop()').toHaveLength(1);
  });

  it('a pattern and a channel that it matches are separate subscriptions of one connection', async () => {
    const { server, pubSub, publisher } = await startAll();
    const pattern = recordChannel(pubSub, { pattern: 'news:*' });
    const channel = recordChannel(pubSub, 'news:a');
    // A channel whose name is the pattern itself.
    const literal = recordChannel(pubSub, 'news:*');
    await receivesAgain(pattern, publisher, 'news:b');
    await receivesAgain(channel, publisher, 'news:a');
    await receivesAgain(literal, publisher, 'news:*');
    expect(pattern.messages).toHaveLength(3);
    expect([channel, literal].map(({ messages }) => messages.length)).toEqual([1, 1]);
    channel.stop();
    await publisher.publish('news:a', 'the last');
    await until('the pattern receives it', () => pattern.messages.includes('the last'));
    expect(channel.messages).toHaveLength(1);
    expect(await listenersAt(server.url)).toHaveLength(1);
    for (const recorder of [pattern, literal]) recorder.stop();
    await until('no subscription is left', async () => (await listenersAt(server.url)).length === 0);
  });

  it('the error of a channel listener is reported, and other listeners still receive messages', async () => {
    const { pubSub, errors, publisher } = await startAll();
    const fail = () => {
      throw new Error('a listener that fails');
    };
    pubSub.subscribe('a', { onMessage: fail, onStatus: fail });
    const rejects = async () => fail();
    pubSub.subscribe('a', { onMessage: rejects, onStatus: rejects });
    const recorder = recordChannel(pubSub, 'a');
    await receivesAgain(recorder, publisher, 'a');
    await receivesAgain(recorder, publisher, 'a');
    expect(recorder.changes).toEqual([true]);
    await until('each failure is reported', () => errors.length === 6);
    expect(errors[0]).toMatchObject({ feature: 'connection', error: { message: 'a listener that fails' } });
  });
});

describeWithServers('a subscriber connection that is lost', () => {
  it('a subscriber connection that Redis kills is replaced, and messages arrive again', async () => {
    const { pubSub, publisher } = await startAll();
    const recorders = ['a', { pattern: 'b*' }].map((channel) => recordChannel(pubSub, channel));
    await until('both are up', () => recorders.every((recorder) => recorder.isUp));
    for (let cut = 1; cut <= 3; cut++) {
      await publisher.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub']);
      await until('the channel is down and up again', () =>
        recorders.every((recorder) => recorder.changes.length === 1 + 2 * cut),
      );
      for (const [index, recorder] of recorders.entries())
        await receivesAgain(recorder, publisher, 'ab'[index] ?? '');
    }
    expect(recorders.map((recorder) => recorder.changes)).toEqual(
      recorders.map(() => [true, false, true, false, true, false, true]),
    );
  });

  it('a lost subscriber connection is opened again only while a subscription exists', async () => {
    const { server, pubSub, publisher } = await startAll();
    const recorder = recordChannel(pubSub, 'a');
    await until('it is up', () => recorder.isUp);
    const [id = ''] = (await listenersAt(server.url)).map((line) => /^id=(\d+)/.exec(line)?.[1] ?? '');
    recorder.stop();
    await until('Redis knows', async () => (await listenersAt(server.url)).length === 0);
    const before = await connectionsSoFar(publisher);
    await publisher.sendCommand(['CLIENT', 'KILL', 'ID', id]);
    // Longer than the pause before another attempt.
    await pause(700);
    expect(await connectionsSoFar(publisher)).toBe(before);
    const later = recordChannel(pubSub, 'a');
    await receivesAgain(later, publisher, 'a');
    expect(await connectionsSoFar(publisher)).toBe(before + 1);
    expect(recorder.changes, 'nothing after stop()').toEqual([true]);
  });

  it('a subscriber connection to a frozen server is down within 8 s, even while channels are subscribed', async () => {
    const { server, pubSub, publisher } = await startAll();
    const recorder = recordChannel(pubSub, 'a');
    await until('it is up', () => recorder.isUp);
    server.freeze();
    const elapsedMs = stopwatch();
    await until('it is down', () => {
      // Writes to a dead connection do not reveal that it is dead.
      recordChannel(pubSub, `b${performance.now()}`);
      return !recorder.isUp;
    });
    expect(elapsedMs()).toBeLessThan(8_000);
    server.thaw();
    await receivesAgain(recorder, publisher, 'a');
    expect(recorder.changes).toEqual([true, false, true]);
  });

  it('a subscriber connection stays up while no message is published for longer than its timeout', async () => {
    const { pubSub, publisher } = await startAll();
    const recorder = recordChannel(pubSub, 'a');
    await receivesAgain(recorder, publisher, 'a');
    // Longer than the timeout of a silent connection.
    await pause(6_500);
    await receivesAgain(recorder, publisher, 'a');
    expect(recorder.changes).toEqual([true]);
  });

  it('a subscriber connection stays up while the event loop is blocked', async () => {
    const { pubSub, publisher } = await startAll();
    const recorder = recordChannel(pubSub, 'a');
    await receivesAgain(recorder, publisher, 'a');
    for (const ms of [6_000, 1_500, 1_500]) {
      const end = performance.now() + ms;
      while (performance.now() < end);
      await pause(10);
    }
    await receivesAgain(recorder, publisher, 'a');
    expect(recorder.changes).toEqual([true]);
  });

  it('subscribed channels receive messages again after the server is killed and restarted', async () => {
    const { server, pubSub } = await startAll();
    const recorder = recordChannel(pubSub, 'a');
    await until('it is up', () => recorder.isUp);
    await server.kill();
    await until('it is down', () => !recorder.isUp);
    const late = recordChannel(pubSub, 'b');
    await server.restart();
    const publisher = await publisherFor(server);
    await receivesAgain(recorder, publisher, 'a');
    await receivesAgain(late, publisher, 'b');
    expect([recorder.changes, late.changes]).toEqual([[true, false, true], [true]]);
  });

  it('a subscriber connection is opened when Redis becomes reachable', async () => {
    const port = await freePort();
    const { pubSub } = connectForTest({ port });
    const recorder = recordChannel(pubSub, 'a');
    const server = await startServerForTest({ port });
    await receivesAgain(recorder, await publisherFor(server), 'a');
  });
});
