import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import express from 'express';
import inject from 'light-my-request';
import { createMocks, type RequestOptions } from 'node-mocks-http';
import { expect, it } from 'vitest';
import type { Middleware, RedisKit } from '../../../src/index.ts';
import { SECRET } from '../../session/browser.ts';
import { describeOnBothEngines, kitForTest } from '../../support/kits.ts';
import { EXPRESS } from '../frameworks.ts';

const FEATURES: readonly (readonly [name: string, make: (kit: RedisKit) => Middleware])[] = [
  ['kit.lock', (kit) => kit.lock({ key: () => 'a' })],
  ['kit.lock with a handler', (kit) => kit.lock({ key: () => 'a' }, () => undefined)],
  ['kit.concurrency', (kit) => kit.concurrency({ key: () => 'a', limit: 1 })],
  ['kit.cache', (kit) => kit.cache({ ttl: '1m' })],
  ['kit.cache with a handler', (kit) => kit.cache({ ttl: '1m' }, () => undefined)],
  [
    'kit.rateLimit',
    (kit) => kit.rateLimit({ algorithm: 'sliding-window', limit: 9, window: '1m', key: () => 'a' }),
  ],
  ['kit.idempotency', (kit) => kit.idempotency({ scope: () => 'a' })],
];

/** The response that Socket.IO passes for an upgrade. */
const PARTIAL = {
  setHeader: () => undefined,
  getHeader: () => undefined,
  removeHeader: () => undefined,
  writeHead: () => undefined,
  write: () => undefined,
  end: () => undefined,
  once: () => undefined,
};

it.each(
  FEATURES.flatMap(([name, make]) =>
    ([{}, undefined, PARTIAL] as const).flatMap((res) =>
      ['GET', 'POST'].map((method) => [name, method, res, make] as const),
    ),
  ),
)(
  '%s calls next() with a configuration error for a %s request when `res` is incomplete: %j',
  async (name, method, res, make) => {
    const middleware = make(kitForTest({ url: 'memory:' }));
    const req = { method, url: '/', headers: { 'idempotency-key': '"k"' } } as unknown as IncomingMessage;
    const calls: unknown[] = [];
    await new Promise<void>((resolve) => {
      middleware(req, res as unknown as ServerResponse, (error) => {
        calls.push(error);
        resolve();
      });
    });
    expect(calls).toMatchObject([
      {
        code: 'ERR_REDIS_KIT_CONFIG',
        message: expect.stringContaining(`${name.split(' ')[0]}: the response`),
      },
    ]);
  },
);

/** Mock responses emit events only if an EventEmitter is passed to node-mocks-http. */
function mocks(request: RequestOptions) {
  return createMocks(request, { eventEmitter: EventEmitter });
}

describeOnBothEngines('a response of a test library', (url) => {
  it.each(FEATURES.filter(([name]) => !name.includes('handler')))(
    'a response of node-mocks-http works with %s',
    async (_, make) => {
      const { req, res } = mocks({ method: 'POST', url: '/a', headers: { 'idempotency-key': '"k"' } });
      const error = await new Promise((next) => make(kitForTest({ url: url() }))(req, res, next));
      expect(error).toBeUndefined();
      const ended = new Promise((resolve) => res.on('end', resolve));
      res.status(201).setHeader('X-A', '1').json({ a: 1 });
      await ended;
      expect([res.statusCode, res._getJSONData(), res.getHeader('x-a')]).toEqual([201, { a: 1 }, '1']);
    },
  );

  it('a session on a response of node-mocks-http is saved before the end', async () => {
    const kit = kitForTest({ url: url() });
    const { req, res } = mocks({ url: '/' });
    const session = kit.session({ secret: SECRET });
    expect(await new Promise((next) => session(req, res, next))).toBeUndefined();
    req.session.userId = 'ann';
    const ended = new Promise((resolve) => res.on('end', resolve));
    res.end('hello');
    await ended;
    expect([res._getData(), await kit.sessions.count()]).toEqual(['hello', 1]);
  });

  it('a refusal on a response of node-mocks-http equals that on a real one', async () => {
    const kit = kitForTest({ url: url() });
    const limit = kit.rateLimit({ algorithm: 'sliding-window', limit: 1, window: '1m', key: () => 'a' });
    for (const status of [200, 429]) {
      const { req, res } = mocks({ url: '/' });
      const ended = new Promise((resolve) => res.on('end', resolve));
      await Promise.race([ended, new Promise((next) => limit(req, res, next))]);
      expect(res.statusCode).toBe(status);
    }
  });

  it.each(EXPRESS)('a response of light-my-request works with all features (%s)', async (_, makeApp) => {
    const kit = kitForTest({ url: url() });
    const app = makeApp();
    app.use(kit.session({ secret: SECRET }));
    app.use(express.text());
    for (const [name, make] of FEATURES) if (!name.includes('handler')) app.use(make(kit));
    app.use((req, res) => {
      req.session.views = (req.session.views ?? 0) + 1;
      res.status(201).json({ views: req.session.views });
    });
    const headers = { 'idempotency-key': '"k"' };
    const first = await inject(app, { method: 'POST', url: '/a', headers });
    expect([first.statusCode, first.json()]).toEqual([201, { views: 1 }]);
    const cookie = first.cookies.map(({ name, value }) => `${name}=${encodeURIComponent(value)}`).join('; ');
    expect(cookie).toMatch(/^connect\.sid=/);
    const repeat = await inject(app, { method: 'POST', url: '/a', headers: { ...headers, cookie } });
    expect(repeat.json()).toEqual({ views: 1 });
    const next = await inject(app, { method: 'POST', url: '/a', headers: { cookie } });
    expect(next.json()).toEqual({ views: 2 });
  });
});
