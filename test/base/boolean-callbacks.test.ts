import express, { type ErrorRequestHandler, type RequestHandler } from 'express';
import { expect, it, onTestFinished } from 'vitest';
import { ConfigError, type RedisKit } from '../../src/index.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

/** Middleware with a callback that must return true or false. */
const CALLBACKS: Readonly<Record<string, (kit: RedisKit, callback: () => never) => RequestHandler>> = {
  'kit.cache: option `skip`': (kit, skip) => kit.cache({ ttl: '1m', skip }),
  'kit.idempotency: option `store`': (kit, store) =>
    kit.idempotency({ methods: ['GET'], scope: () => 'all', store }),
};

/** Sends three requests through the middleware, and returns what it reported: to the app or as an event. */
async function reportsOf(name: string, result: () => unknown) {
  const kit = kitForTest({ url: 'memory:' });
  const emitted = eventsOf(kit, 'error');
  const passed: unknown[] = [];
  const unhandled: unknown[] = [];
  const record = (reason: unknown) => void unhandled.push(reason);
  process.on('unhandledRejection', record);
  onTestFinished(() => void process.off('unhandledRejection', record));
  const create = CALLBACKS[name] ?? expect.unreachable();
  const app = express();
  app.use(create(kit, result as () => never));
  app.use((_req, res) => void res.status(503).send('ran'));
  const fail: ErrorRequestHandler = (error, _req, res, _next) => {
    passed.push(error);
    res.status(500).send('failed');
  };
  app.use(fail);
  const address = await serve(app);
  const answers = [];
  for (let turn = 0; turn < 3; turn++) {
    answers.push(await send(address, { headers: { 'Idempotency-Key': 'k' } }));
  }
  const errors = () => [...new Set([...passed, ...emitted.map(({ error }) => error)])];
  await until('the result is reported', () => errors().length > 0);
  return { errors: errors(), emitted, unhandled, answers };
}

it.each(Object.keys(CALLBACKS))('%s that returns a string is reported as a ConfigError', async (name) => {
  const { errors } = await reportsOf(name, () => 'yes');
  expect(errors[0]).toBeInstanceOf(ConfigError);
  expect(errors[0]).toMatchObject({ message: `${name} returned 'yes'; it must return true or false` });
});

it.each(Object.keys(CALLBACKS))(
  '%s that returns a promise is reported as a ConfigError, and the rejection of the promise is handled',
  async (name) => {
    for (const result of [async () => false, () => Promise.reject(new Error('no database'))]) {
      const { errors, unhandled } = await reportsOf(name, result);
      expect(errors[0]).toMatchObject({
        code: 'ERR_REDIS_KIT_CONFIG',
        message: `${name} returned a promise; it must return true or false`,
      });
      expect(unhandled).toEqual([]);
    }
  },
);

it('a status is final, and reported once, if `store` of kit.idempotency returns no boolean', async () => {
  const { answers, emitted } = await reportsOf('kit.idempotency: option `store`', () => undefined);
  expect(answers.map(({ status, headers }) => [status, headers['idempotent-replayed']])).toEqual([
    [503, undefined],
    [503, 'true'],
    [503, 'true'],
  ]);
  expect(emitted).toHaveLength(1);
});

it('a request is not skipped if `skip` of kit.cache returns undefined, as `req.user?.isAdmin` does', async () => {
  const address = await serve(
    express().use(
      kitForTest({ url: 'memory:' }).cache({ ttl: '1m', skip: (() => undefined) as never }),
      (_req, res) => void res.send('page'),
    ),
  );
  await send(address);
  expect((await send(address)).headers.age).toBeDefined();
});
