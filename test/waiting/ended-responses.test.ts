import express, { type RequestHandler } from 'express';
import { expect, it } from 'vitest';
import type { RedisKit } from '../../src/index.ts';
import { gate } from '../idempotency/shop.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

type Key = () => string | Promise<string>;
type Protect = (kit: RedisKit, key: Key, handler: RequestHandler) => RequestHandler[];

/** Middleware that protects a handler, and the handler. */
const PROTECTED: Readonly<Record<string, Protect>> = {
  'kit.lock': (kit, key, handler) => [kit.lock({ key }), handler],
  'kit.lock with `wait`': (kit, key, handler) => [kit.lock({ key, wait: '20s' }), handler],
  'kit.lock with a handler': (kit, key, handler) => [
    kit.lock({ key }, (req, res) => handler(req, res, () => undefined)),
  ],
  'kit.concurrency': (kit, key, handler) => [kit.concurrency({ key, limit: 1 }), handler],
  'kit.concurrency with `wait`': (kit, key, handler) => [
    kit.concurrency({ key, limit: 1, wait: '20s' }),
    handler,
  ],
  'kit.idempotency': (kit, key, handler) => [kit.idempotency({ methods: ['GET'], scope: key }), handler],
  'kit.idempotency with `inFlight`': (kit, key, handler) => [
    kit.idempotency({ methods: ['GET'], scope: key, inFlight: 'wait' }),
    handler,
  ],
};

describeOnBothEngines('A response that is ended before its handler is called', (url) => {
  /** An app that ends the response of a request with `X-Timeout` as soon as its middleware has been called. */
  async function start(name: string, key: Key) {
    const begun: object[] = [];
    const app = express();
    app.use((req, res, next) => {
      next();
      if (req.get('x-timeout') !== undefined) res.status(500).send('timeout');
    });
    const handler: RequestHandler = (req, res) => {
      begun.push({ isLate: res.writableEnded, attempt: req.idempotency?.attempt ?? 1 });
      res.end('ran');
    };
    const protect = PROTECTED[name] ?? expect.unreachable();
    app.use(...protect(kitForTest({ url: url() }), key, handler));
    const address = await serve(app);
    const ask = async (headers = {}) =>
      (await send(address, { headers: { 'Idempotency-Key': 'k', ...headers } })).text;
    return { begun, ask };
  }

  it.each(Object.keys(PROTECTED))(
    'in %s, no handler runs if the response was ended before the key of the request is known',
    async (name) => {
      const { opened, open } = gate();
      const { begun, ask } = await start(name, () => opened.then(() => 'k'));
      expect(await ask({ 'X-Timeout': '1' })).toBe('timeout');
      open();
      expect(await ask()).toBe('ran');
      expect(begun).toEqual([{ isLate: false, attempt: 1 }]);
    },
  );

  it.each(Object.keys(PROTECTED))(
    'in %s, no handler runs if the response was ended before the grant, which is given back',
    async (name) => {
      const { begun, ask } = await start(name, () => 'k');
      expect(await ask({ 'X-Timeout': '1' })).toBe('timeout');
      await until('a further request runs', async () => (await ask()) === 'ran');
      expect(begun).toEqual([{ isLate: false, attempt: 1 }]);
    },
  );
});
