import { request } from 'node:http';
import express from 'express';
import { describe, expect, it } from 'vitest';
import type { Json, RedisKit, SseOptions } from '../../src/index.ts';
import { describeWithServers, redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { connectedClients, startServerForTest } from '../support/pub-sub.ts';
import { onEveryStore } from '../support/stores.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';
import { openEvents } from './events.ts';

/** Serves `/` as a stream, and reports errors as JSON. */
async function serveEvents(kit: RedisKit, options: SseOptions | SseOptions['channels']) {
  const app = express().set('env', 'test');
  const given = typeof options === 'function' ? { channels: options } : options;
  app.use(kit.sse(given));
  app.use((_req, res) => void res.status(404).send('the next handler'));
  app.use((error: Error, _req: express.Request, res: express.Response, _next: express.NextFunction) => {
    res.status(500).json({ name: error.name, message: error.message });
  });
  return serve(app);
}

const channelFromUrl: SseOptions['channels'] = (req) => (req.url ?? '').slice(1);

onEveryStore('Server-sent events', (makeKit) => {
  it('a client receives the messages of its channels as JSON, from the head on', async () => {
    const kit = makeKit();
    const url = await serveEvents(kit, () => ['news', 'jobs']);
    const reader = await openEvents(url);
    const sent: Json[] = [{ n: 1, text: 'é ☃\n\u2028' }, 'text\r\n\r\n', null, 0];
    for (const data of sent) await kit.publish('news', data);
    await kit.publish('jobs', 'a job');
    await kit.publish('others', 'not for this client');
    await kit.publish('news', 'the last');
    await reader.count(sent.length + 2);
    await until('the last arrives', () => reader.data.includes('the last'));
    expect(reader.data.filter((data) => data !== 'a job')).toEqual([...sent, 'the last']);
    expect(reader.events.every(({ id, event }) => id === undefined && event === undefined)).toBe(true);
    expect(reader.headers).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    });
  });

  it('a stream ends when the kit closes, and its client can connect to another process', async () => {
    const kit = makeKit();
    const url = await serveEvents(kit, () => 'news');
    const reader = await openEvents(url);
    await kit.close();
    expect((await reader.ended()).isCut).toBe(false);
    // An error status would make a browser give up.
    const late = await send(url);
    expect([late.status, late.text]).toEqual([200, ':\n\n']);
  });
});

describe('The requests of kit.sse', () => {
  const memoryKit = () => kitForTest({ url: 'memory:' });

  it('HEAD is answered with the head of the stream, and other methods pass to the next handler', async () => {
    const url = await serveEvents(memoryKit(), () => 'news');
    const head = await send(url, { method: 'HEAD' });
    expect([head.status, head.text, head.headers['content-type']]).toEqual([200, '', 'text/event-stream']);
    for (const method of ['POST', 'OPTIONS']) expect((await send(url, { method })).status).toBe(404);
  });

  it('null from `channels` passes the request to the next handler, and an error to the error handler', async () => {
    const url = await serveEvents(memoryKit(), async (req) => {
      if (req.url === '/throw') throw new Error('no such user');
      return null;
    });
    expect((await send(`${url}/`)).text).toBe('the next handler');
    const failed = await send(`${url}/throw`);
    expect([failed.status, failed.headers['content-type']]).toEqual([500, 'application/json; charset=utf-8']);
    expect(failed.text).toContain('no such user');
  });

  it.each<[string, unknown, string]>([
    ['undefined', undefined, 'returned undefined; it must return a string that is not empty'],
    ['an empty string', '', "returned an empty string ('')"],
    ['a number in an array', ['a', 7], 'returned a number (7)'],
    ['a name of 513 bytes', 'x'.repeat(513), 'a name has 513 bytes; it must have at most 512'],
    ['101 names', Array.from({ length: 101 }, (_, n) => `${n}`), 'returned 101 channels; the most are 100'],
  ])('%s from `channels` is an error of the app', async (_, channels, message) => {
    const url = await serveEvents(memoryKit(), () => channels as string);
    const answer = await send(url);
    expect(answer.status).toBe(500);
    expect(answer.text).toContain(message);
    expect(answer.headers['x-accel-buffering']).toBeUndefined();
  });

  it('a stream without channels is open and stays empty', async () => {
    const kit = memoryKit();
    const url = await serveEvents(kit, () => []);
    const reader = await openEvents(url);
    await kit.publish('news', 1);
    await kit.close();
    expect((await reader.ended()).events).toEqual([]);
  });

  it('a channel that is named twice is sent once', async () => {
    const kit = memoryKit();
    const reader = await openEvents(await serveEvents(kit, () => ['news', 'news']));
    await kit.publish('news', 1);
    await kit.publish('news', 2);
    expect((await reader.count(2)).data).toEqual([1, 2]);
  });

  it.each<[object, RegExp]>([
    [{}, /option `channels` is undefined; it is required/],
    [{ channels: 'news' }, /option `channels` is 'news'; it must be a function/],
    [
      { channels: () => 'a', replay: {} },
      /option `replay` is an object; it must be a log that kit.log\(\) has created/,
    ],
    [{ channels: () => 'a', heartbeat: 0 }, /option `heartbeat` is 0/],
    [{ channels: () => 'a', maxBuffered: -1 }, /option `maxBuffered` is -1/],
    [{ channels: () => 'a', event: 'news' }, /option `event` is 'news'; it must be a function/],
    [{ channels: () => 'a', keepAlive: 1 }, /unknown option `keepAlive`; .*`heartbeat`/],
  ])('the options %o are refused', (options, message) => {
    expect(() => memoryKit().sse(options as SseOptions)).toThrow(message);
  });
});

describe('The events of kit.sse', () => {
  const memoryKit = () => kitForTest({ url: 'memory:' });

  it('`event` names the events, and `retry` is sent first', async () => {
    const kit = memoryKit();
    const event = (data: Json, channel: string) => (data === 'plain' ? undefined : `${channel}-changed`);
    const reader = await openEvents(await serveEvents(kit, { channels: () => ['news'], event, retry: '2s' }));
    await until('`retry` arrives', () => reader.retry === '2000');
    for (const data of ['plain', 'named']) await kit.publish('news', data);
    await reader.count(2);
    expect(reader.events).toEqual([
      { id: undefined, event: undefined, data: 'plain' },
      { id: undefined, event: 'news-changed', data: 'named' },
    ]);
  });

  it.each<[string, () => string | undefined, RegExp]>([
    [
      'throws',
      () => {
        throw new Error('no name');
      },
      /^no name$/,
    ],
    ['returns a line break', () => 'a\ndata: injected\n\n', /it must return a string without line breaks/],
    ['returns a carriage return', () => 'a\rdata: injected', /without line breaks/],
    ['returns a number', () => 7 as unknown as string, /returned 7; it must return a string/],
  ])(
    'a callback `event` that %s is reported, and the event is sent without a name',
    async (_, event, message) => {
      const kit = memoryKit();
      const errors = eventsOf(kit, 'error');
      const reader = await openEvents(await serveEvents(kit, { channels: () => 'news', event }));
      for (const data of [1, 2]) await kit.publish('news', data);
      await reader.count(2);
      expect(reader.events).toEqual([1, 2].map((data) => ({ id: undefined, event: undefined, data })));
      expect(errors).toEqual([
        { feature: 'sse', error: expect.objectContaining({ message: expect.stringMatching(message) }) },
      ]);
    },
  );

  it('a message of another Redis client cannot end an event: text that is no JSON is skipped', async () => {
    const kit = kitForTest({ url: redisUrl() });
    const errors = eventsOf(kit, 'error');
    const reader = await openEvents(await serveEvents(kit, () => 'news'));
    await withPlainClient(redisUrl(), async (client) => {
      for (const text of ['1\n\nevent: evil\ndata: 2', '{\n"spread":\r\n\n"over lines"\n}']) {
        await client.publish(`${kit.prefix}:channel:{news}`, text);
      }
    });
    await reader.count(1);
    expect(reader.data).toEqual([{ spread: 'over lines' }]);
    expect(errors).toMatchObject([{ feature: 'sse', error: { code: 'ERR_REDIS_KIT_CORRUPT' } }]);
  });

  it('a heartbeat is sent at each interval until the client leaves', async () => {
    const kit = memoryKit();
    const url = await serveEvents(kit, { channels: () => 'news', heartbeat: '20s' });
    const readers = [await openEvents(url), await openEvents(url)];
    await until('the first frames arrive', () => readers.every(({ heartbeats }) => heartbeats === 1));
    stopTime();
    // The alarm was set before the time was stopped.
    const late = await openEvents(url);
    await passTime(20_000);
    await until('the heartbeats arrive', () => readers.every(({ heartbeats }) => heartbeats === 2));
    await passTime(20_000);
    await until('more heartbeats arrive', () => readers.every(({ heartbeats }) => heartbeats === 3));
    expect(late.heartbeats).toBe(3);
  });
});

describeWithServers('The cost of streams', () => {
  it('the clients of a channel share one subscription, which ends with the last of them', async () => {
    const server = await startServerForTest();
    const kit = kitForTest({ url: server.url });
    await kit.ready();
    const url = await serveEvents(kit, channelFromUrl);
    const readers = await Promise.all(Array.from({ length: 100 }, () => openEvents(`${url}/news`)));
    const subscribers = () =>
      withPlainClient(server.url, async (client) => {
        const counts = await client.pubSubNumSub(`${kit.prefix}:channel:{news}`);
        return Object.values(counts)[0];
      });
    expect([await subscribers(), await connectedClients(server.url)]).toEqual([1, 2]);
    await kit.publish('news', 1);
    await Promise.all(readers.map((reader) => reader.count(1)));
    for (const reader of readers.slice(1)) reader.close();
    await kit.publish('news', 2);
    await readers[0]?.count(2);
    expect(await subscribers()).toBe(1);
    readers[0]?.close();
    await until('the subscription ends', async () => (await subscribers()) === 0);
  });

  it('a stream opens while Redis cannot be reached, and receives messages when Redis is back', async () => {
    const server = await startServerForTest();
    const kit = kitForTest({ url: server.url, commandTimeout: '200ms' });
    await kit.ready();
    const url = await serveEvents(kit, () => 'news');
    const early = await openEvents(url);
    await server.kill();
    const late = await openEvents(url);
    await server.restart();
    await until('messages arrive again', async () => {
      await kit.publish('news', 'again').catch(() => undefined);
      return [early, late].every(({ data }) => data.includes('again'));
    });
    expect([early, late].map(({ hasEnded }) => hasEnded)).toEqual([false, false]);
  });
});

describe('The end of a stream', () => {
  it('a stream ends with close() of its middleware, and streams of other middleware stay open', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const [first, second] = [kit.sse({ channels: () => 'a' }), kit.sse({ channels: () => 'a' })];
    const url = await serve(express().use('/first', first).use('/second', second));
    const readers = [await openEvents(`${url}/first`), await openEvents(`${url}/second`)];
    first.close();
    await readers[0]?.ended();
    expect((await send(`${url}/first`)).text).toBe(':\n\n');
    await kit.publish('a', 1);
    await readers[1]?.count(1);
    expect(readers[0]?.events).toEqual([]);
  });

  it('a stream that ends before it was open is a stream all the same, so that a browser connects again', async () => {
    const kit = kitForTest({ url: redisUrl() });
    const sse = kit.sse({ channels: () => 'news' });
    const url = await serve((req, res) => {
      sse(req, res, () => res.end('next'));
      // The subscription has not begun yet.
      setImmediate(() => sse.close());
    });
    const { status, headers, text } = await send(url);
    expect([status, headers['content-type'], text]).toEqual([200, 'text/event-stream', '']);
  });

  it('a response that fails is reported, and the other streams receive the message', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const errors = eventsOf(kit, 'error');
    const app = express().use((req, res, next) => {
      const { write } = res;
      if (req.url === '/broken') {
        res.write = ((chunk: Buffer) => {
          if (chunk.includes('data')) throw new Error('a broken response');
          return write.call(res, chunk, 'utf8');
        }) as typeof write;
      }
      next();
    });
    const url = await serve(app.use(kit.sse({ channels: () => 'news' })));
    await openEvents(`${url}/broken`);
    const reader = await openEvents(url);
    await kit.publish('news', 1);
    expect((await reader.count(1)).data).toEqual([1]);
    expect(errors).toMatchObject([{ feature: 'sse', error: { message: 'a broken response' } }]);
  });

  it('a handler above is done when the client leaves: a slot and its place are free again', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const app = express().use(
      kit.concurrency({ limit: 1, key: () => 'all' }),
      kit.sse({ channels: () => 'a' }),
    );
    const url = await serve(app);
    const reader = await openEvents(url);
    expect((await send(url)).status).toBe(429);
    reader.close();
    await until('the slot is free', async () => {
      const answer = await new Promise<number | undefined>((resolve) => {
        const client = request(url, { agent: false }, (response) => {
          resolve(response.statusCode);
          client.destroy();
        });
        client.on('error', () => undefined);
        client.end();
      });
      return answer === 200;
    });
  });

  it('a client that leaves while `channels` is pending leaves nothing behind', async () => {
    const kit = kitForTest({ url: 'memory:' });
    let resolve: (channel: string) => void = () => undefined;
    let isCalled = false;
    const url = await serveEvents(kit, () => {
      isCalled = true;
      return new Promise((done) => {
        resolve = done;
      });
    });
    const client = request(url, { agent: false });
    client.on('error', () => undefined);
    client.end();
    await until('the callback is called', () => isCalled);
    client.destroy();
    resolve('news');
    await kit.publish('news', 1);
    await kit.close({ timeout: '1s' });
  });
});
