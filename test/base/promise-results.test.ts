import { setImmediate as turnOfTheLoop } from 'node:timers/promises';
import express, { type ErrorRequestHandler, type RequestHandler } from 'express';
import { expect, it, onTestFinished } from 'vitest';
import type { RedisKit } from '../../src/index.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

type Callback = () => never;

const WINDOW = { name: 'a', algorithm: 'sliding-window', window: '1m' } as const;
const SECRET = 'a secret of the test';

type Create = (kit: RedisKit, callback: Callback) => RequestHandler | RequestHandler[];

/** Middleware with a callback that must not return a promise, and how the error begins. */
const CALLBACKS: Readonly<Record<string, readonly [error: string, create: Create]>> = {
  '`limit` of kit.rateLimit': [
    "the limit of 'a' is a promise",
    (kit, limit) => kit.rateLimit({ ...WINDOW, limit }),
  ],
  '`cost` of kit.rateLimit': [
    "the cost for 'a' is a promise",
    (kit, cost) => kit.rateLimit({ ...WINDOW, limit: 9, cost }),
  ],
  '`ttl` of kit.cache': ['kit.cache: option `ttl` returned a promise', (kit, ttl) => kit.cache({ ttl })],
  '`key` of kit.cache': [
    'kit.cache: option `key` returned a promise',
    (kit, key) => kit.cache({ ttl: '1m', key }),
  ],
  '`key.session` of kit.cache': [
    'kit.cache: option `key.session` returned a promise',
    (kit, session) => kit.cache({ ttl: '1m', key: { session } }),
  ],
  '`tags` of kit.cache': [
    'kit.cache: option `tags`: the tags are a promise',
    (kit, tags) => kit.cache({ ttl: '1m', tags }),
  ],
  '`limit` of kit.concurrency': [
    'kit.concurrency: option `limit` returned a promise',
    (kit, limit) => kit.concurrency({ limit }),
  ],
  '`genid` of kit.session': [
    'kit.session: option `genid` returned a promise',
    (kit, genid) => kit.session({ secret: SECRET, genid }),
  ],
  '`cookie` of kit.session': [
    'kit.session({ cookie }): options must be an object, got a promise',
    (kit, cookie) => kit.session({ secret: SECRET, cookie }),
  ],
  '`user.id` of kit.state': [
    'kit.state: option `id` of `user` returned a promise',
    (kit, id) => [
      kit.state({ user: { id, ttl: '1m' } }),
      (req, _res, next) => void (req.state.user === undefined || next()),
    ],
  ],
  'the callback of log.middleware': [
    'log.middleware: the callback returned a promise',
    (kit, eventOf) => kit.log('a', { ttl: '1h' }).middleware(eventOf),
  ],
};

it.each(Object.entries(CALLBACKS))(
  '%s that returns a promise is reported in an error, and the rejection of the promise is handled',
  async (_name, [error, create]) => {
    const unhandled: unknown[] = [];
    const record = (reason: unknown) => void unhandled.push(reason);
    process.on('unhandledRejection', record);
    onTestFinished(() => void process.off('unhandledRejection', record));
    const kit = kitForTest({ url: 'memory:' });
    const passed: Error[] = [];
    const emitted = eventsOf(kit, 'error');
    const app = express();
    app.use(create(kit, (() => Promise.reject(new Error('no database'))) as Callback));
    app.use((_req, res) => void res.send('ran'));
    const fail: ErrorRequestHandler = (reason, _req, res, _next) => {
      passed.push(reason);
      res.status(500).end();
    };
    app.use(fail);
    await send(await serve(app));
    const messages = () => [...passed, ...emitted.map((event) => event.error)].map(({ message }) => message);
    await until('the result is reported', () => messages().length > 0);
    expect(messages()).toEqual([expect.stringContaining(error)]);
    // Node.js reports an unhandled rejection at the end of the turn of the event loop in which it happened.
    await turnOfTheLoop();
    expect(unhandled).toEqual([]);
  },
);
