import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import express from 'express';
import { expect, it } from 'vitest';
import {
  ConfigError,
  type Json,
  type KitOptions,
  type Log,
  type RedisKit,
  type ReplayLog,
  type SseOptions,
} from '../../src/index.ts';
import { clusterNodes, describeWithServers, redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { connectedClients, startServerForTest } from '../support/pub-sub.ts';
import { onEveryStore } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';
import { countCommands } from '../support/wire.ts';
import { openEvents } from './events.ts';

function start(kit: RedisKit, channels: SseOptions['channels'] = () => 'chat') {
  const log = kit.log<Json>('messages', { ttl: '1h', limit: 10_000 });
  return {
    kit,
    log,
    serve: (replay: ReplayLog = log) =>
      serve(express().set('env', 'test').use(kit.sse({ channels, replay }))),
  };
}

async function append(log: Log<Json>, id: string, events: Iterable<Json>): Promise<void> {
  for (const event of events) await log.append(id, event);
}

function* numbers(from: number, to: number): Generator<number> {
  for (let n = from; n < to; n++) yield n;
}

function withLastId(id: string | undefined): Record<string, string> {
  return id === undefined ? {} : { 'last-event-id': id };
}

/** Reads as a browser does: connects again with its last id whenever the connection is cut, after 0 to 19 events. */
async function readAll(url: string, count: number) {
  const received: unknown[] = [];
  let lastId: string | undefined;
  let rounds = 0;
  while (received.length < count) {
    const cutAfter = Math.min((rounds++ * 7) % 20, count - received.length);
    const reader = await openEvents(url, withLastId(lastId), cutAfter);
    await reader.ended();
    received.push(...reader.data);
    lastId = reader.lastId;
  }
  return { received, rounds };
}

onEveryStore('Server-sent events of a log', (makeKit) => {
  it('a client that reconnects at any moment misses no entry and receives none twice', async () => {
    const { log, serve } = start(makeKit());
    const url = await serve();
    const count = 200;
    const reader = await openEvents(url);
    await until('the id of the end arrives', () => reader.lastId !== undefined);
    const appended = append(log, 'chat', numbers(0, count));
    const { received, rounds } = await readAll(`${url}?lastEventId=${reader.lastId}`, count);
    await appended;
    expect(received).toEqual([...numbers(0, count)]);
    expect(rounds).toBeGreaterThan(15);
    await reader.count(count);
    expect(reader.data).toEqual([...numbers(0, count)]);
    expect(reader.events.every(({ id }) => /^\d+-\d+$/.test(String(id)))).toBe(true);
  });

  it('a client that is cut before its first entry resumes where it began', async () => {
    const { log, serve } = start(makeKit());
    await log.append('chat', 'earlier');
    const url = await serve();
    const reader = await openEvents(url);
    await until('the id of the end arrives', () => reader.lastId !== undefined);
    reader.close();
    await log.append('chat', 'meanwhile');
    const again = await openEvents(url, withLastId(reader.lastId));
    await log.append('chat', 'later');
    expect((await again.count(2)).data).toEqual(['meanwhile', 'later']);
  });

  it('a stream whose ids would be too long for a header is an error of the app, and one at the bound resumes', async () => {
    const name = (length: number, index: number) => `${index}-${'ü'.repeat(length)}`;
    const { log, serve } = start(makeKit(), (req) => {
      const [, length = '0'] = /(\d+)/.exec(req.url ?? '') ?? [];
      return Array.from({ length: 10 }, (_, index) => name(Number(length), index));
    });
    const url = await serve();
    // Each name takes 6 characters for each ü, and 36 for the rest and the cursor.
    const failed = await send(`${url}/200`);
    expect(failed.status).toBe(500);
    expect(failed.text).toContain('the id of an event must have at most 8000 characters');
    const reader = await openEvents(`${url}/120`);
    await until('the id of the end arrives', () => reader.lastId !== undefined);
    expect(reader.lastId?.length).toBeGreaterThan(7_000);
    reader.close();
    await log.append(name(120, 3), 'missed');
    const again = await openEvents(`${url}/120`, { 'last-event-id': reader.lastId ?? '' });
    expect((await again.count(1)).data).toEqual(['missed']);
  });

  it('the id of a stream of several channels has a cursor for each of them', async () => {
    const { log, serve } = start(
      makeKit(),
      (req) => (req.url ?? '').slice(1).split('?')[0]?.split(',') ?? [],
    );
    const url = await serve();
    const reader = await openEvents(`${url}/a,b,c`);
    await until('the id of the end arrives', () => reader.lastId !== undefined);
    for (const [id, event] of [
      ['a', 1],
      ['b', 2],
      ['a', 3],
    ] as const)
      await log.append(id, event);
    await reader.count(3);
    const cursors = new URLSearchParams(reader.lastId);
    expect([...cursors.keys()].sort()).toEqual(['a', 'b', 'c']);
    expect(cursors.get('a')).toBe((await log.last('a', 1))[0]?.cursor);
    expect(cursors.get('c')).toBe('0-0');
    reader.close();
    for (const [id, event] of [
      ['a', 4],
      ['c', 5],
      ['d', 6],
    ] as const)
      await log.append(id, event);
    // A channel that is new begins with its next entry.
    const again = await openEvents(`${url}/c,a,d`, withLastId(reader.lastId));
    await log.append('d', 7);
    await again.count(3);
    expect(again.data.toSorted()).toEqual([4, 5, 7]);
  });

  it('a last id that is no cursor counts as none', async () => {
    const { log, serve } = start(makeKit());
    await log.append('chat', 'earlier');
    const url = await serve();
    const hostile = [
      ...[
        '0',
        '-',
        '1-',
        'x-y',
        '1-1-1',
        '$',
        '*',
        '+',
        '99999999999999999999-0',
        '%',
        "'",
        '{}',
        '__proto__',
      ],
      ...[
        '1-0%0Adata: evil%0A%0A',
        '1-0%0D',
        '%00',
        'x'.repeat(5_000),
        '%C3%A9',
        '%ED%A0%80',
        '0-0&chat=0-0',
      ],
    ];
    const readers = await Promise.all(hostile.map((id) => openEvents(`${url}?lastEventId=${id}`)));
    readers.push(
      ...(await Promise.all(['x', '1-', '\u00e9', ' '].map((id) => openEvents(url, withLastId(id))))),
    );
    await log.append('chat', 'from now on');
    for (const [index, reader] of readers.entries()) {
      await reader.count(1);
      expect(reader.response.statusCode).toBe(200);
      if (hostile[index]?.startsWith('0-0&') !== true) expect(reader.data).toEqual(['from now on']);
      expect(reader.ids).toHaveLength(1);
    }
  });

  it('the id of a reconnect has priority over the query parameter, which begins the first stream', async () => {
    const { log, serve } = start(makeKit());
    await append(log, 'chat', [1, 2, 3]);
    const [first, second] = (await log.last('chat', 3)).map(({ cursor }) => cursor);
    const url = `${await serve()}/?page=1&lastEventId=${first}`;
    expect((await (await openEvents(url)).count(2)).data).toEqual([2, 3]);
    expect((await (await openEvents(url, withLastId(second))).count(1)).data).toEqual([3]);
    expect((await (await openEvents(`${url.split('?')[0]}?lastEventId=0-0`)).count(3)).data).toEqual([
      1, 2, 3,
    ]);
  });

  it('a client that reads slowly holds the log back, not the memory of the process', async () => {
    const { kit, log, serve } = start(makeKit());
    const overflows = eventsOf(kit, 'sse:overflow');
    let delivered = 0;
    const counting: ReplayLog = {
      end: (id) => log.end(id),
      follow: (id, listener, options) =>
        log.follow(
          id,
          (entry) => {
            delivered++;
            return listener(entry);
          },
          options,
        ),
    };
    const reader = await openEvents(await serve(counting));
    await until('the stream is open', () => reader.lastId !== undefined);
    reader.response.pause();
    const text = 'x'.repeat(200_000);
    const count = 60;
    await append(
      log,
      'chat',
      Array.from(numbers(0, count), (n) => [n, text]),
    );
    await turn();
    // The buffers of the sockets take some megabytes, of 12.
    expect(delivered).toBeLessThan(count);
    reader.response.resume();
    await reader.count(count);
    expect(reader.data.map((data) => (data as [number])[0])).toEqual([...numbers(0, count)]);
    expect([delivered, overflows.length]).toEqual([count, 0]);
  });
});

it('a log that refuses an id causes an error response without the headers of a stream', async () => {
  const refuse = () => Promise.reject(new ConfigError('no id of a log'));
  const { serve } = start(kitForTest({ url: 'memory:' }));
  const answer = await send(await serve({ end: refuse, follow: refuse }));
  expect([answer.status, answer.headers['x-accel-buffering']]).toEqual([500, undefined]);
});

/** Kills the subscriber of a kit on each server, over and over, until the returned function is called. */
function killSubscribers(urls: readonly string[], { prefix }: RedisKit): () => Promise<number> {
  let kills = 0;
  let isDone = false;
  const running = urls.map((url) =>
    withPlainClient(url, async (client) => {
      while (!isDone) {
        const list = String(await client.sendCommand(['CLIENT', 'LIST', 'TYPE', 'pubsub']));
        const own = list.split('\n').filter((line) => line.includes(` name=${prefix} `));
        for (const line of own) {
          kills += Number(
            await client.sendCommand(['CLIENT', 'KILL', 'ID', /^id=(\d+)/.exec(line)?.[1] ?? '']),
          );
        }
        await pause(30);
      }
    }),
  );
  return async () => {
    isDone = true;
    await Promise.all(running);
    return kills;
  };
}

describeWithServers('Server-sent events of a log whose subscriber is lost', () => {
  it.each<[string, KitOptions, readonly string[]]>([
    ['Redis', { url: redisUrl() }, [redisUrl()]],
    [
      'a Cluster',
      { cluster: { nodes: clusterNodes() } },
      clusterNodes().map(({ host, port }) => `redis://${host}:${port}`),
    ],
  ])(
    'lost subscriber connections and cut clients lose and repeat no entry on %s',
    async (_, options, urls) => {
      const { kit, log, serve } = start(kitForTest(options));
      const url = await serve();
      const count = 300;
      const steady = await openEvents(url);
      await until('the id of the end arrives', () => steady.lastId !== undefined);
      const stopKilling = killSubscribers(urls, kit);
      const appended = (async () => {
        for (const n of numbers(0, count)) {
          await log.append('chat', n);
          // Over a time in which the subscriber is killed several times.
          if (n % 10 === 0) await pause(20);
        }
      })();
      const { received } = await readAll(`${url}?lastEventId=0-0`, count);
      await appended;
      expect(await stopKilling()).toBeGreaterThan(1);
      await steady.count(count);
      expect(received).toEqual([...numbers(0, count)]);
      expect(steady.data).toEqual([...numbers(0, count)]);
    },
  );
});

describeWithServers('Server-sent events of a log and a Redis server of their own', () => {
  it('an entry is one command and one message for all streams of its log', async () => {
    const server = await startServerForTest();
    const { kit, log, serve } = start(kitForTest({ url: server.url }));
    const url = await serve();
    await log.append('chat', 0);
    const readers = await Promise.all(Array.from({ length: 50 }, () => openEvents(url)));
    await until('all are open', () => readers.every(({ lastId }) => lastId !== undefined));
    await log.append('chat', 1);
    await Promise.all(readers.map((reader) => reader.count(1)));
    const commands = await countCommands(server.url, async () => {
      await log.append('chat', 2);
      await Promise.all(readers.map((reader) => reader.count(2)));
    });
    expect(commands.map(([name]) => name)).toEqual(['EVALSHA']);
    expect(await connectedClients(server.url)).toBe(2);
    for (const reader of readers) reader.close();
    await until('the subscription ends', () =>
      withPlainClient(
        server.url,
        async (client) => (await client.pubSubChannels(`${kit.prefix}:*`)).length === 0,
      ),
    );
  });

  it('a stream that begins while Redis cannot be reached continues when Redis is back', async () => {
    const server = await startServerForTest();
    const { kit, log, serve } = start(kitForTest({ url: server.url, commandTimeout: '200ms' }));
    await kit.ready();
    const url = await serve();
    const early = await openEvents(url);
    await until('the stream is open', () => early.lastId !== undefined);
    await server.kill();
    const late = await openEvents(url);
    expect([late.response.statusCode, late.lastId]).toEqual([200, undefined]);
    await server.restart();
    await until('the late stream has its position', () => late.lastId !== undefined);
    await until('an entry is stored', () => log.append('chat', 'again').then(Boolean, () => false));
    for (const reader of [early, late]) expect((await reader.count(1)).data).toEqual(['again']);
  });
});
