import { AsyncLocalStorage } from 'node:async_hooks';
import express, { type RequestHandler } from 'express';
import { expect, it, onTestFinished, vi } from 'vitest';
import type { RedisKit } from '../../src/index.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { send, serve } from '../support/web.ts';

/** Middleware that holds a lease for each request. */
const MIDDLEWARE: Readonly<Record<string, (kit: RedisKit) => RequestHandler>> = {
  'kit.lock': (kit) => kit.lock({ key: (req) => req.path }),
  'kit.lock with `wait`': (kit) => kit.lock({ key: (req) => req.path, wait: '20s' }),
  'kit.concurrency': (kit) => kit.concurrency({ limit: 1_000 }),
  'kit.idempotency': (kit) =>
    kit.idempotency({ methods: ['GET'], scope: () => 'all', fingerprint: (req) => req.path }),
};

const REQUESTS = 40;

function create(name: string, kit: RedisKit): RequestHandler {
  return (MIDDLEWARE[name] ?? expect.unreachable())(kit);
}

/** Starts requests that hold their leases until `end()` is called. */
async function start(middleware: readonly RequestHandler[], count: number) {
  const app = express();
  const ends: (() => void)[] = [];
  app.get('/{*path}', ...middleware, (_req, res) => void ends.push(() => res.send('ran')));
  const address = await serve(app);
  const answers = Array.from({ length: count }, (_, index) =>
    send(`${address}/${index}`, { headers: { 'Idempotency-Key': `key-${index}` } }),
  );
  await until('all requests run', () => ends.length === count);
  const end = () => {
    for (const each of ends) each();
    return Promise.all(answers);
  };
  return { end };
}

describeOnBothEngines('The leases of a process', (url) => {
  it('the leases of all requests, and their longest durations, share one timer', async () => {
    const kit = kitForTest({ url: url() });
    await kit.ready();
    stopTime();
    const before = vi.getTimerCount();
    const middleware = ['kit.lock', 'kit.concurrency', 'kit.idempotency'].map((name) => create(name, kit));
    const { end } = await start(middleware, REQUESTS);
    const locks = await Promise.all(
      Array.from({ length: REQUESTS }, (_, index) => kit.locks.acquire(`job:${index}`)),
    );
    expect(vi.getTimerCount() - before).toBe(1);
    expect((await end()).map(({ status }) => status)).toEqual(Array(REQUESTS).fill(200));
    expect(vi.getTimerCount() - before).toBe(1);
    await Promise.all(locks.map((lock) => lock.release()));
    expect(vi.getTimerCount() - before).toBe(0);
  });

  it.each(Object.keys(MIDDLEWARE))('a request enters no async context in %s', async (name) => {
    const kit = kitForTest({ url: url() });
    await kit.ready();
    const [run, enterWith] = (['run', 'enterWith'] as const).map((method) =>
      vi.spyOn(AsyncLocalStorage.prototype, method),
    );
    onTestFinished(() => void vi.restoreAllMocks());
    const { end } = await start([create(name, kit)], 2);
    expect((await end()).map(({ text }) => text)).toEqual(['ran', 'ran']);
    expect([run?.mock.calls, enterWith?.mock.calls]).toEqual([[], []]);
    await kit.locks.using('a', {}, () => undefined);
    expect(run?.mock.calls).toHaveLength(1);
  });
});
