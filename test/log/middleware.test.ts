import { request } from 'node:http';
import express, { type RequestHandler } from 'express';
import { describe, expect, it } from 'vitest';
import type { RedisKit, RequestEvent } from '../../src/index.ts';
import { Gate } from '../http/exchange.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { onEveryStore } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

interface Visit {
  readonly path: string;
  readonly status: number;
  readonly isComplete: boolean;
}

const visitOf: RequestEvent<Visit> = (req, res) => ({
  id: 'all',
  event: { path: req.path, status: res.statusCode, isComplete: res.writableFinished },
});

function visitsOf(kit: RedisKit) {
  return kit.log<Visit>('visits', { ttl: '1h' });
}

function appOf(middleware: ReturnType<ReturnType<typeof visitsOf>['middleware']>, handler: RequestHandler) {
  const app = express().set('env', 'test');
  app.use(middleware);
  app.use(handler);
  return serve(app);
}

onEveryStore('The middleware of a log', (makeKit) => {
  it('one event per request is appended, with the status of the response', async () => {
    const log = visitsOf(makeKit());
    const address = await appOf(log.middleware(visitOf), (req, res) => {
      res.sendStatus(req.path === '/missing' ? 404 : 200);
    });
    expect((await send(`${address}/found`)).status).toBe(200);
    await until('the first is stored', async () => (await log.last('all', 9)).length === 1);
    expect((await send(`${address}/missing`)).status).toBe(404);
    await until('both are stored', async () => (await log.last('all', 9)).length === 2);
    expect((await log.last('all', 9)).map(({ event }) => event)).toEqual([
      { path: '/found', status: 200, isComplete: true },
      { path: '/missing', status: 404, isComplete: true },
    ]);
  });
});

describe('A request that is logged', () => {
  it('a request whose client leaves is logged when the client has left', async () => {
    const log = visitsOf(kitForTest({ url: 'memory:' }));
    const entered = new Gate();
    const address = await appOf(log.middleware(visitOf), () => entered.open());
    const client = request(`${address}/slow`, { agent: false }).on('error', () => undefined);
    client.end();
    await entered.promise;
    client.destroy();
    await until('it is stored', async () => (await log.last('all', 9)).length === 1);
    expect(await log.last('all', 9)).toMatchObject([{ event: { path: '/slow', isComplete: false } }]);
  });

  it('a request for which the callback returns null is not logged', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const log = visitsOf(kit);
    const errors = eventsOf(kit, 'error');
    const some: RequestEvent<Visit> = (req, res) => (req.path === '/health' ? null : visitOf(req, res));
    const address = await appOf(log.middleware(some), (_req, res) => void res.end());
    for (const path of ['/health', '/page']) await send(`${address}${path}`);
    await until('the other is stored', async () => (await log.last('all', 9)).length > 0);
    expect(await log.last('all', 9)).toMatchObject([{ event: { path: '/page' } }]);
    expect(errors).toEqual([]);
  });

  it.each<readonly [string, RequestEvent<unknown>, RegExp]>([
    ['a callback that throws', () => expect.unreachable('thrown by the callback'), /thrown by the callback/],
    [
      'a callback without an id',
      () => ({ id: '', event: 1 }),
      /returned an object; it must return \{ id, event \}/,
    ],
    [
      'a callback that returns nothing',
      () => undefined as never,
      /log.middleware: the callback returned undefined/,
    ],
    ['an event without a JSON form', () => ({ id: 'all', event: 1n }), /cannot be stored as JSON/],
  ])('%s is reported and does not affect the response', async (_name, callback, message) => {
    const kit = kitForTest({ url: 'memory:' });
    const errors = eventsOf(kit, 'error');
    const middleware = kit.log<unknown>('visits', { ttl: '1h' }).middleware(callback);
    const address = await appOf(middleware, (_req, res) => void res.send('fine'));
    expect((await send(address)).text).toBe('fine');
    await until('it is reported', () => errors.length > 0);
    expect(errors).toMatchObject([{ feature: 'log', error: { message: expect.stringMatching(message) } }]);
  });

  it('a request during an outage is answered, and the failure is reported', async () => {
    const kit = kitForTest({ url: 'redis://127.0.0.1:1', commandTimeout: '100ms' });
    const errors = eventsOf(kit, 'error');
    const address = await appOf(visitsOf(kit).middleware(visitOf), (_req, res) => void res.send('fine'));
    expect((await send(address)).text).toBe('fine');
    await until('it is reported', () => errors.some(({ feature }) => feature === 'log'));
  });

  it('closing the kit waits for the events of requests that have ended', async () => {
    const opened = new Gate();
    const kit = kitForTest({ url: 'memory:' });
    const entered = new Gate();
    const stored: string[] = [];
    const log = kit.log<Visit>('visits', {
      ttl: '1h',
      onAppend: [
        async (context, next) => {
          entered.open();
          await opened.promise;
          const cursor = await next();
          stored.push(context.event.path);
          return cursor;
        },
      ],
    });
    const address = await appOf(log.middleware(visitOf), (_req, res) => void res.end());
    await send(`${address}/page`);
    await entered.promise;
    const closed = kit.close();
    opened.open();
    await closed;
    expect(stored).toEqual(['/page']);
  });
});
