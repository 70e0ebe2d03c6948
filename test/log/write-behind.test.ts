import express from 'express';
import { describe, expect, it } from 'vitest';
import type { KitOptions, Log, LogOptions, RedisKit, WriteBehindOptions } from '../../src/index.ts';
import { Gate } from '../http/exchange.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { startProxy } from '../support/proxy.ts';
import { startServerForTest } from '../support/pub-sub.ts';
import { onEveryStore } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

const ttl = '1h';
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index);

/** A log with write-behind and the events that were lost. Its timeout is long: no test depends on a fast machine. */
function start(
  kit: RedisKit,
  options: WriteBehindOptions<number> = {},
  more: Partial<LogOptions<number>> = {},
) {
  const lost: [code: string | undefined, id: string, event: number][] = [];
  const log = kit.log<number>('chat', {
    ttl,
    ...more,
    writeBehind: {
      timeout: '5m',
      onError: (error, { id, event }) => lost.push([(error as { code?: string }).code, id, event]),
      ...options,
    },
  });
  const plain = kitForTestLike(kit);
  return { log, lost, plain };
}

/** The same log without write-behind, on a kit that stays open. */
let openKit: (prefix: string) => RedisKit;
function kitForTestLike(kit: RedisKit) {
  return () => openKit(kit.prefix).log<number>('chat', { ttl });
}

async function startServer(options: Partial<KitOptions> = {}) {
  const server = await startServerForTest();
  openKit = (prefix) => kitForTest({ url: server.url, prefix });
  return { server, kit: kitForTest({ url: server.url, commandTimeout: '1m', ...options } as KitOptions) };
}

/** An app whose requests append 1, 2, ... */
function serveLogged(log: Log<number>): Promise<string> {
  let requests = 0;
  const app = express();
  app.use(
    log.middleware(() => ({ id: 'room', event: ++requests })),
    (_req, res) => void res.end(),
  );
  return serve(app);
}

const eventsIn = (entries: readonly { readonly event: number }[]) => entries.map(({ event }) => event);

onEveryStore('A log with write-behind', (makeKit) => {
  it('an append resolves to undefined, and its event is stored soon, in order per id', async () => {
    const kit = makeKit();
    const log = kit.log<number>('chat', { ttl, writeBehind: { workers: 3 } });
    const appended = upTo(60).map((number) => log.append(`room ${number % 3}`, number));
    expect(new Set(await Promise.all(appended))).toEqual(new Set([undefined]));
    for (const room of upTo(3)) {
      await until('all are stored', async () => (await log.last(`room ${room}`, 100)).length === 20);
      expect(eventsIn(await log.last(`room ${room}`, 100))).toEqual(
        upTo(20).map((index) => index * 3 + room),
      );
    }
  });
});

describeWithServers('A log with write-behind while Redis is paused', () => {
  it('appends answer at once, and closing the kit stores all events in order per id', async () => {
    const { server, kit } = await startServer();
    const { log, lost, plain } = start(kit);
    await log.append('room 0', -1);
    await until('the first is stored', async () => (await log.last('room 0', 1)).length === 1);
    server.freeze();
    // Settles although the server cannot answer before it is thawed below.
    await Promise.all(upTo(90).map((number) => log.append(`room ${number % 3}`, number)));
    const closed = kit.close({ timeout: '5m' });
    await expect(log.append('room 0', 99)).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CLOSED' });
    server.thaw();
    await closed;
    expect(lost).toEqual([]);
    const stored = await Promise.all(upTo(3).map((room) => plain().last(`room ${room}`, 100)));
    expect(stored.map(eventsIn)).toEqual(
      upTo(3).map((room) => [...(room === 0 ? [-1] : []), ...upTo(30).map((index) => index * 3 + room)]),
    );
  });

  it('the queue stays within its bound, and an append above it rejects with onFull reject', async () => {
    const { server, kit } = await startServer();
    const { log, lost, plain } = start(kit, { workers: 2, queue: 3, onFull: 'reject' });
    await kit.ready();
    server.freeze();
    for (const number of upTo(5)) await log.append(`room ${number % 2}`, number);
    await expect(log.append('room 0', 5)).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_QUEUE_FULL' });
    server.thaw();
    await kit.close({ timeout: '5m' });
    expect(lost).toEqual([]);
    expect(eventsIn(await plain().last('room 0', 9))).toEqual([0, 2, 4]);
  });

  it('the oldest event in the queue is dropped and reported with onFull drop-oldest', async () => {
    const { server, kit } = await startServer();
    const { log, lost, plain } = start(kit, { workers: 1, queue: 2, onFull: 'drop-oldest' });
    await kit.ready();
    server.freeze();
    for (const number of upTo(5)) await log.append('room', number);
    server.thaw();
    await kit.close({ timeout: '5m' });
    expect(lost).toEqual([
      ['ERR_REDIS_KIT_QUEUE_FULL', 'room', 1],
      ['ERR_REDIS_KIT_QUEUE_FULL', 'room', 2],
    ]);
    expect(eventsIn(await plain().last('room', 9))).toEqual([0, 3, 4]);
  });

  it('closing the kit reports each event that was not stored in time', async () => {
    const { server, kit } = await startServer();
    const { log, lost } = start(kit, { workers: 1 });
    const errors = eventsOf(kit, 'error');
    await kit.ready();
    server.freeze();
    for (const number of upTo(3)) await log.append('room', number);
    await kit.close({ timeout: 20 });
    server.thaw();
    expect(lost.sort(([, , a], [, , b]) => a - b)).toEqual(
      upTo(3).map((number) => ['ERR_REDIS_KIT_CLOSED', 'room', number]),
    );
    expect(errors.filter(({ feature }) => feature === 'log')).toHaveLength(1);
  });

  it('an event that is not stored within the timeout is reported', async () => {
    const { server, kit } = await startServer();
    const { log, lost } = start(kit, { timeout: 50 });
    await kit.ready();
    server.freeze();
    await log.append('room', 1);
    await until('it is reported', () => lost.length === 1);
    server.thaw();
    expect(lost).toEqual([['ERR_REDIS_KIT_TIMEOUT', 'room', 1]]);
  });
});

describeWithServers('Closing a kit while open work appends to a log with write-behind', () => {
  it('the event of a request that has ended is stored, although its hook ends after the call of close', async () => {
    const { kit } = await startServer();
    const [entered, opened] = [new Gate(), new Gate()];
    const hook = async (_context: unknown, next: () => Promise<string | undefined>) => {
      entered.open();
      await opened.promise;
      return next();
    };
    const { log, lost, plain } = start(kit, {}, { onAppend: [hook] });
    const address = await serveLogged(log);
    await send(address);
    await entered.promise;
    const closed = kit.close({ timeout: '5m' });
    opened.open();
    await closed;
    expect(lost).toEqual([]);
    expect(eventsIn(await plain().last('room', 9))).toEqual([1]);
  });

  it('a background job for which close waits may append, and its event is stored', async () => {
    const { kit } = await startServer();
    const { log, plain } = start(kit);
    const opened = new Gate();
    const jobErrors: string[] = [];
    const jobs = kit.background({ onError: (error) => jobErrors.push(error.message) });
    await jobs.push('job', async () => {
      await opened.promise;
      await log.append('room', 1);
    });
    const closed = kit.close({ timeout: '5m' });
    await expect(log.append('room', 2)).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CLOSED' });
    opened.open();
    await closed;
    expect(jobErrors).toEqual([]);
    expect(eventsIn(await plain().last('room', 9))).toEqual([1]);
  });

  it('an append that waits for space is accepted and stored', async () => {
    const { server, kit } = await startServer();
    const { log, lost, plain } = start(kit, { workers: 1, queue: 1 });
    await kit.ready();
    server.freeze();
    const appended = Promise.all(upTo(5).map((number) => log.append('room', number)));
    const closed = kit.close({ timeout: '5m' });
    server.thaw();
    await appended;
    await closed;
    expect(lost).toEqual([]);
    expect(eventsIn(await plain().last('room', 9))).toEqual(upTo(5));
  });

  it('the event of a request that ends after the close is reported with its id', async () => {
    const { kit } = await startServer();
    const { log, lost } = start(kit);
    const errors = eventsOf(kit, 'error');
    const address = await serveLogged(log);
    await kit.close();
    await send(address);
    await until('it is reported', () => lost.length > 0);
    expect(lost).toEqual([['ERR_REDIS_KIT_CLOSED', 'room', 1]]);
    expect(errors).toHaveLength(1);
  });
});

describeWithServers('A log with write-behind whose middleware finds the queue full', () => {
  it.each(['wait', 'reject'] as const)(
    'the event of a request is reported and does not wait with onFull %s',
    async (onFull) => {
      const { server, kit } = await startServer();
      const { log, lost, plain } = start(kit, { workers: 1, queue: 1, onFull });
      const errors = eventsOf(kit, 'error');
      const address = await serveLogged(log);
      await kit.ready();
      server.freeze();
      for (const number of [10, 11]) await log.append('room', number);
      // Each is reported while the server is frozen, so none waits for space.
      for (let requests = 1; requests <= 3; requests++) {
        await send(address);
        await until('it is reported', () => lost.length === requests);
      }
      server.thaw();
      await kit.close({ timeout: '5m' });
      expect(lost).toEqual(upTo(3).map((index) => ['ERR_REDIS_KIT_QUEUE_FULL', 'room', index + 1]));
      expect(errors).toMatchObject([{ feature: 'log', error: { code: 'ERR_REDIS_KIT_QUEUE_FULL' } }]);
      expect(eventsIn(await plain().last('room', 9))).toEqual([10, 11]);
    },
  );
});

describeWithServers('A failed write of a log with write-behind', () => {
  it('a write whose reply was lost is reported with its event and not repeated', async () => {
    const { server } = await startServer();
    const proxy = await startProxy(server);
    const kit = kitForTest({ url: proxy.url });
    const { log, lost, plain } = start(kit);
    await log.append('room', 0);
    await until('the first is stored', async () => (await log.last('room', 1)).length === 1);
    proxy.loseNextReply();
    await log.append('room', 1);
    await log.append('room', 2);
    await until('the last is stored', async () => eventsIn(await plain().last('room', 9)).includes(2));
    expect(eventsIn(await plain().last('room', 9))).toEqual([0, 1, 2]);
    expect(lost).toEqual([['ERR_REDIS_KIT_CONNECTION', 'room', 1]]);
  });

  it('events of an outage are stored in their order when Redis is back', async () => {
    const { server } = await startServer();
    const proxy = await startProxy(server);
    const kit = kitForTest({ url: proxy.url });
    const { log, lost, plain } = start(kit, { retries: 1_000 });
    await log.append('room', 0);
    await until('the first is stored', async () => (await log.last('room', 1)).length === 1);
    const down = eventsOf(kit, 'connection:down');
    proxy.sever();
    await until('the outage has begun', () => down.length > 0);
    for (const number of [1, 2, 3]) await log.append('room', number);
    expect(eventsIn(await plain().last('room', 9))).toEqual([0]);
    proxy.mend();
    await kit.close({ timeout: '5m' });
    expect(eventsIn(await plain().last('room', 9))).toEqual([0, 1, 2, 3]);
    expect(lost).toEqual([]);
  });

  it('an event that no retry could store is reported as a ConnectionError', async () => {
    const kit = kitForTest({ url: 'redis://127.0.0.1:1' });
    openKit = () => kit;
    const down = eventsOf(kit, 'connection:down');
    await until('the outage has begun', () => down.length > 0);
    const { log, lost } = start(kit, { retries: 1 });
    await log.append('room', 1);
    await until('it is reported', () => lost.length === 1);
    expect(lost).toEqual([['ERR_REDIS_KIT_CONNECTION', 'room', 1]]);
  });
});

describe('A log with write-behind and the app', () => {
  it('an event is stored as it was when it was appended', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const log = kit.log<{ text: string }>('chat', { ttl, writeBehind: {} });
    const event = { text: 'first' };
    const appended = log.append('room', event);
    event.text = 'changed';
    await appended;
    await until('it is stored', async () => (await log.last('room', 1)).length === 1);
    expect(await log.last('room', 1)).toMatchObject([{ event: { text: 'first' } }]);
  });

  it('an event without a JSON form rejects its append, and a hook refuses an event before the queue', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const log = kit.log<unknown>('chat', {
      ttl,
      writeBehind: {},
      onAppend: [async ({ event }, next) => (event === 'spam' ? undefined : next())],
    });
    await expect(log.append('room', 1n)).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CONFIG' });
    await log.append('room', 'spam');
    await log.append('room', 'fine');
    await until('it is stored', async () => (await log.last('room', 9)).length > 0);
    expect(await log.last('room', 9)).toMatchObject([{ event: 'fine' }]);
  });

  it('the middleware appends through the queue', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const log = kit.log<string>('visits', { ttl, writeBehind: {} });
    const app = express();
    app.use(
      log.middleware((req) => ({ id: 'all', event: req.path })),
      (_req, res) => void res.end(),
    );
    await send(`${await serve(app)}/page`);
    await until('it is stored', async () => (await log.last('all', 9)).length > 0);
    expect(await log.last('all', 9)).toMatchObject([{ event: '/page' }]);
  });

  it('kit.log names a wrong option of writeBehind', () => {
    const kit = kitForTest({ url: 'memory:' });
    const logWith = (writeBehind: unknown) => () =>
      kit.log('chat', { ttl, writeBehind } as LogOptions<unknown>);
    expect(logWith({ workers: 0 })).toThrow(/kit.log: option `writeBehind`: option `workers` is 0/);
    expect(logWith(true)).toThrow(/kit.log: option `writeBehind`: options must be an object, got true/);
  });
});
