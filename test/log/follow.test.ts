import { expect, it } from 'vitest';
import type { Log, LogEntry } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startProxy } from '../support/proxy.ts';
import { listenersAt, startServerForTest } from '../support/pub-sub.ts';
import { startCluster } from '../support/servers.ts';
import { onEveryStore } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { countCommands } from '../support/wire.ts';

const ttl = '1h';

/** Follows a log and records the events. */
async function record(log: Log<number>, options: { readonly after?: string } = {}, id = 'room') {
  const events: number[] = [];
  const cursors: string[] = [];
  const stop = await log.follow(
    id,
    ({ event, cursor }) => {
      events.push(event);
      cursors.push(cursor);
    },
    options,
  );
  return { events, cursors, stop };
}

/** Starts a server and a log on it, whose follower has received the first event. */
async function followOnOwnServer() {
  const server = await startServerForTest();
  const kit = kitForTest({ url: server.url });
  const log = kit.log<number>('chat', { ttl });
  const { events } = await record(log);
  await log.append('room', 0);
  await until('the follower has begun', () => events.length === 1);
  return { server, kit, log, events };
}

const upTo = (count: number) => Array.from({ length: count }, (_, index) => index);

onEveryStore('A follower of a log', (makeKit) => {
  it('a follower receives the entries that are appended from now on, in order and each once', async () => {
    const kit = makeKit();
    const log = kit.log<number>('chat', { ttl });
    await log.append('room', -1);
    const { events, cursors } = await record(log);
    const appended = [];
    for (const number of upTo(20)) appended.push(await log.append('room', number));
    await log.append('another room', 99);
    await until('all entries have arrived', () => events.length >= 20);
    expect(events).toEqual(upTo(20));
    expect(cursors).toEqual(appended);
  });

  it('a listener cannot change the event that other followers receive', async () => {
    const log = makeKit().log<{ name: string; tags: string[] }>('chat', { ttl });
    await log.append('room', { name: 'read', tags: ['a'] });
    const seen: unknown[] = [];
    for (let times = 0; times < 2; times++) {
      await log.follow(
        'room',
        ({ event }) => {
          expect(() => event.tags.push('changed')).toThrow(TypeError);
          expect(() => Object.assign(event, { name: 'changed' })).toThrow(TypeError);
          seen.push(event);
        },
        { after: '0-0' },
      );
    }
    await until('the stored entry has arrived', () => seen.length >= 2);
    await log.append('room', { name: 'announced', tags: ['b'] });
    await until('the new entry has arrived', () => seen.length >= 4);
    const [read, announced] = [
      { name: 'read', tags: ['a'] },
      { name: 'announced', tags: ['b'] },
    ];
    expect(seen).toEqual([read, read, announced, announced]);
  });

  it('a follower with a cursor receives what it has missed, page by page, and goes on with new entries', async () => {
    const log = makeKit().log<number>('chat', { ttl });
    await Promise.all(upTo(250).map((number) => log.append('room', number)));
    const all = await log.last('room', 250);
    const { events, cursors } = await record(log, { after: all[9]?.cursor ?? '' });
    await log.append('room', 250);
    await until('all entries have arrived', () => events.length >= 241);
    expect(events).toEqual([...all.slice(10).map(({ event }) => event), 250]);
    expect(cursors.slice(0, -1)).toEqual(all.slice(10).map(({ cursor }) => cursor));
  });

  it('a follower that ends and begins again at its last cursor misses nothing', async () => {
    const log = makeKit().log<number>('chat', { ttl });
    const events: number[] = [];
    let cursor = '0-0';
    let appended = 0;
    for (let round = 1; round <= 30; round++) {
      const stop = await log.follow(
        'room',
        (entry) => {
          cursor = entry.cursor;
          events.push(entry.event);
        },
        { after: cursor },
      );
      const appends = upTo(4).map(() => log.append('room', appended++));
      await Promise.all(appends);
      await until('the entries of the round have arrived', () => events.length >= round * 4 - (round % 3));
      await stop();
    }
    await log.follow('room', ({ event }) => events.push(event), { after: cursor });
    await until('all entries have arrived', () => events.length >= appended);
    expect(events).toEqual(upTo(appended));
  });

  it('a slow listener gets one entry at a time, and none twice', async () => {
    const log = makeKit().log<number>('chat', { ttl });
    const events: number[] = [];
    let running = 0;
    await log.follow('room', async ({ event }) => {
      expect(++running).toBe(1);
      events.push(event);
      await new Promise(setImmediate);
      running--;
    });
    for (const number of upTo(30)) await log.append('room', number);
    await until('all entries have arrived', () => events.length >= 30);
    expect(events).toEqual(upTo(30));
  });

  it('a listener that fails is reported, and neither its own entries nor those of others are lost', async () => {
    const kit = makeKit();
    const errors = eventsOf(kit, 'error');
    const log = kit.log<number>('chat', { ttl });
    const seen: number[] = [];
    await log.follow('room', ({ event }) => {
      seen.push(event);
      throw new Error('thrown by a listener');
    });
    await log.follow('room', () => Promise.reject(new Error('rejected by a listener')));
    const { events } = await record(log);
    for (const number of upTo(3)) await log.append('room', number);
    await until('all entries have arrived', () => events.length === 3 && seen.length === 3);
    expect([events, seen]).toEqual([upTo(3), upTo(3)]);
    await until('both are reported', () => errors.length === 2);
    expect(errors.map(({ feature, error }) => [feature, error.message]).sort()).toEqual([
      ['log', 'rejected by a listener'],
      ['log', 'thrown by a listener'],
    ]);
  });

  it('a follower ends with its function, with its signal and with its kit', async () => {
    const kit = makeKit();
    const other = makeKit({ prefix: kit.prefix });
    const log = kit.log<number>('chat', { ttl });
    const controller = new AbortController();
    const seen: string[] = [];
    const stop = await log.follow('room', () => seen.push('function'));
    await log.follow('room', () => seen.push('signal'), { signal: controller.signal });
    await log.follow('room', () => seen.push('kit'));
    await stop();
    await stop();
    controller.abort();
    await log.append('room', 1);
    await until('the last one has received it', () => seen.length > 0);
    await kit.close();
    if (kit.client !== null) await other.log<number>('chat', { ttl }).append('room', 2);
    expect(seen).toEqual(['kit']);
    await expect(log.follow('room', () => undefined)).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CLOSED' });
    await expect(
      other.log<number>('chat', { ttl }).follow('room', () => undefined, { signal: controller.signal }),
    ).rejects.toBe(controller.signal.reason);
  });

  it('a follower goes on after the log was cleared, and with the oldest entry after a trim', async () => {
    const kit = makeKit();
    const log = kit.log<number>('chat', { ttl, limit: 3 });
    const { events } = await record(log);
    await log.append('room', 1);
    await until('the first has arrived', () => events.length === 1);
    await log.clear('room');
    await log.append('room', 2);
    await until('both have arrived', () => events.length === 2);
    const oldest = (await log.last('room', 1))[0]?.cursor ?? '';
    for (const number of upTo(10)) await log.append('room', number);
    const late = await record(log, { after: oldest });
    await until('the rest has arrived', () => late.events.length === 3);
    expect(events.slice(0, 2)).toEqual([1, 2]);
    expect(late.events).toEqual([7, 8, 9]);
  });

  it('followers receive entries as the onRead hooks return them', async () => {
    const log = makeKit().log<number>('chat', {
      ttl,
      onRead: [
        async (_context, next) =>
          (await next())
            .filter(({ event }) => event % 2 === 0)
            .map((entry) => ({ ...entry, event: entry.event * 10 })),
      ],
    });
    const { events } = await record(log);
    for (const number of upTo(7)) await log.append('room', number);
    await until('all have arrived', () => events.length >= 4);
    expect(events).toEqual([0, 20, 40, 60]);
  });
});

describeWithServers('A follower and its subscription', () => {
  it('followers of one id share one subscription, which ends with the last of them', async () => {
    const server = await startServerForTest();
    const log = kitForTest({ url: server.url }).log<number>('chat', { ttl });
    const followers = [await record(log), await record(log)];
    await until('it is subscribed', async () => /sub=1/.test((await listenersAt(server.url)).join()));
    await log.append('room', 1);
    await until('both have it', () => followers.every(({ events }) => events.length === 1));
    for (const { stop } of followers) await stop();
    await until('it is not subscribed', async () => !/sub=1/.test((await listenersAt(server.url)).join()));
  });

  it('an idle follower costs no command but the append', async () => {
    const server = await startServerForTest();
    const log = kitForTest({ url: server.url }).log<number>('chat', { ttl });
    const { events } = await record(log);
    await log.append('room', 0);
    await until('it has begun', () => events.length === 1);
    const commands = await countCommands(server.url, async () => {
      for (const number of [1, 2, 3]) await log.append('room', number);
      await until('all have arrived', () => events.length === 4);
    });
    expect(commands.map(([name]) => name)).toEqual(['EVALSHA', 'EVALSHA', 'EVALSHA']);
  });

  it('all followers read a new entry with one command, also with read hooks', async () => {
    const server = await startServerForTest();
    const onRead = [(_context: unknown, next: () => Promise<LogEntry<number>[]>) => next()];
    const log = kitForTest({ url: server.url }).log<number>('chat', { ttl, onRead });
    const followers = [await record(log), await record(log), await record(log)];
    await log.append('room', 0);
    await until('they have begun', () => followers.every(({ events }) => events.length === 1));
    const commands = await countCommands(server.url, async () => {
      await log.append('room', 1);
      await until('all have it', () => followers.every(({ events }) => events.length === 2));
    });
    expect(commands.map(([name]) => name)).toEqual(['EVALSHA', 'EVALSHA']);
  });

  it('a follower reads again when an announcement was lost', async () => {
    const { server, kit, log, events } = await followOnOwnServer();
    // Another client adds entries without an announcement, as a Cluster may lose one between two nodes.
    await withPlainClient(server.url, async (client) => {
      await client.xAdd(`${kit.prefix}:log:{room}:chat`, '*', { 1: '1' });
    });
    await log.append('room', 2);
    await until('all have arrived', () => events.length === 3);
    expect(events).toEqual([0, 1, 2]);
  });

  it('a follower that cannot read tries again, and reports it once', async () => {
    const server = await startServerForTest();
    const proxy = await startProxy(server);
    const kit = kitForTest({ url: proxy.url, commandTimeout: '1s' });
    const writer = kitForTest({ url: server.url, prefix: kit.prefix }).log<number>('chat', { ttl });
    const errors = eventsOf(kit, 'error');
    const log = kit.log<number>('chat', { ttl });
    await writer.append('room', 0);
    proxy.sever();
    await expect(log.follow('room', () => undefined)).rejects.toThrow();
    const { events } = await record(log, { after: '0-0' });
    await writer.append('room', 1);
    proxy.mend();
    await until('all have arrived', () => events.length === 2);
    await writer.append('room', 2);
    await until('the last has arrived', () => events.length === 3);
    expect(events).toEqual([0, 1, 2]);
    expect(errors.filter(({ feature }) => feature === 'log').length).toBeLessThanOrEqual(1);
  });
});

describeWithServers('A follower whose connection is lost', () => {
  /** Appends while the subscribers of all servers are killed again and again. */
  async function appendUnderKills(urls: readonly string[], writer: Log<number>, events: readonly number[]) {
    const count = 150;
    for (let from = 0; from < count; from += 10) {
      for (const number of upTo(10)) await writer.append('room', from + number);
      const killed = urls.map((url) =>
        withPlainClient(url, (client) => client.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub'])),
      );
      await Promise.all(killed);
      // Every third time the subscriber reconnects before the next kill.
      if (from % 30 === 0) await until('they have arrived', () => events.length >= from + 10);
    }
    await until('all entries have arrived', () => events.length >= count);
    expect(events).toEqual(upTo(count));
  }

  it('a follower misses nothing and gets nothing twice while its subscriber is killed', async () => {
    const server = await startServerForTest();
    const kit = kitForTest({ url: server.url });
    const log = kit.log<number>('chat', { ttl });
    const { events } = await record(log);
    const slow: number[] = [];
    await log.follow('room', async ({ event }) => {
      slow.push(event);
      await new Promise(setImmediate);
    });
    await appendUnderKills([server.url], log, events);
    await until('the slow follower has all', () => slow.length >= events.length);
    expect(slow).toEqual(events);
  });

  it('a follower on a Cluster misses nothing and gets nothing twice while its subscriber is killed', async () => {
    const cluster = await startCluster();
    try {
      const kit = kitForTest({ cluster: { nodes: cluster.nodes.map(({ host, port }) => ({ host, port })) } });
      const log = kit.log<number>('chat', { ttl });
      const { events } = await record(log);
      await appendUnderKills(
        cluster.nodes.map(({ server }) => server.url),
        log,
        events,
      );
      await kit.close();
    } finally {
      await cluster.stop();
    }
  });

  it('a follower misses nothing while its server restarts without its data', async () => {
    const { server, log, events } = await followOnOwnServer();
    await server.restart();
    const append = (number: number) =>
      until('it is appended', () =>
        log.append('room', number).then(
          () => true,
          () => false,
        ),
      );
    await append(1);
    await append(2);
    await until('all have arrived', () => events.includes(2));
    expect(events).toEqual([0, 1, 2]);
  });
});
