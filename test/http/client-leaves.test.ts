import { get, type IncomingMessage, type ServerResponse } from 'node:http';
import compression from 'compression';
import expressSession from 'express-session';
import morgan from 'morgan';
import { describe, expect, it } from 'vitest';
import type { RedisKit } from '../../src/index.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { until } from '../support/until.ts';
import { type Answer, send, serve } from '../support/web.ts';
import { APPS, type App } from './frameworks.ts';

type Next = (error?: unknown) => void;
type Middleware = (req: IncomingMessage, res: ServerResponse, next: Next) => void;

/** The outer middleware of the tests. No request waits in it; most kinds hold something while the request runs. */
const OUTER: Readonly<Record<string, (kit: RedisKit) => Middleware>> = {
  idempotency: (kit) =>
    kit.idempotency({ methods: ['GET'], header: 'X-Outer-Key', scope: () => 'outer', lease: '60s' }),
  lock: (kit) => kit.lock({ key: () => 'outer', lease: '60s' }),
  'lock around a handler': (kit) => around(kit, () => undefined),
  'lock around a promise': (kit) =>
    around(kit, (res) => new Promise<void>((resolve) => res.once('finish', resolve))),
  concurrency: (kit) => kit.concurrency({ key: () => 'all', name: 'outer', limit: 1, lease: '60s' }),
  cache: (kit) => kit.cache({ ttl: '1m', singleFlight: { wait: '60s', lease: '60s' } }),
  session: (kit) => kit.session({ secret: 'a secret of the tests' }),
  rateLimit: (kit) => kit.rateLimit({ algorithm: 'sliding-window', limit: 1_000, window: '1m' }),
};

/** The inner middleware of the tests, in which a request may wait. */
const INNER: Readonly<Record<string, (kit: RedisKit) => Middleware>> = {
  lock: (kit) => kit.lock({ key: () => 'inner', wait: '60s' }),
  concurrency: (kit) => kit.concurrency({ key: () => 'all', name: 'inner', limit: 1, wait: '60s' }),
  idempotency: (kit) =>
    kit.idempotency({ methods: ['GET'], header: 'X-Inner-Key', scope: () => 'inner', inFlight: 'wait' }),
  cache: (kit) => kit.cache({ ttl: '1m', singleFlight: { wait: '60s', lease: '60s' } }),
};

/** Pairs that are not tested: their requests would already wait for each other in the outer middleware. */
const LEFT_ALONE = ['idempotency above idempotency', 'cache above cache'];

const PAIRS = Object.keys(OUTER)
  .flatMap((outer) => Object.keys(INNER).map((inner) => ({ outer, inner, name: `${outer} above ${inner}` })))
  .filter(({ name }) => !LEFT_ALONE.includes(name));

function around(kit: RedisKit, work: (res: ServerResponse) => unknown): Middleware {
  const nexts = new WeakMap<object, Next>();
  const locked = kit.lock({ key: () => 'outer', lease: '60s' }, (req, res) => {
    nexts.get(req)?.();
    return work(res);
  });
  return (req, res, next) => {
    nexts.set(req, next);
    locked(req, res, next);
  };
}

/** Skips a middleware for requests with this header. */
function unless(header: string, middleware: Middleware): Middleware {
  return (req, res, next) => {
    if (req.headers[header] === undefined) middleware(req, res, next);
    else next();
  };
}

interface Queue {
  /** Sends a request, waits until it is queued in the inner middleware, and disconnects. */
  waitAndLeave(): Promise<void>;
  /** Repeats the request without the inner middleware. */
  retry(): Promise<Answer>;
  /** Ends the request that the queued requests wait for. */
  endFirst(): Promise<Answer>;
  /** The names of the requests whose handler ran. */
  readonly ran: readonly string[];
}

async function queueOf(kit: RedisKit, makeApp: () => App, outer: Middleware, inner: Middleware) {
  const ran: string[] = [];
  let arrived = 0;
  let letGo: () => void = () => undefined;
  const isLetGo = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const app = makeApp();
  app.use(unless('x-skip-outer', outer));
  const neighbours = [
    morgan('tiny', { stream: { write: () => undefined } }),
    compression({ threshold: 0 }),
    expressSession({ secret: 'secret', resave: false, saveUninitialized: true, name: 'outside' }),
  ];
  // All three frameworks accept this middleware; its type is that of one framework.
  for (const neighbour of neighbours) app.use(neighbour as unknown as Middleware);
  app.use((_req, _res, next) => void setImmediate(next));
  app.use((_req, _res, next) => {
    next();
    arrived++;
  });
  app.use(unless('x-skip-inner', inner));
  app.use(async (req: IncomingMessage, res: ServerResponse) => {
    const name = String(req.headers['x-name']);
    ran.push(name);
    if (name === 'first') await isLetGo;
    res.end(name);
  });
  const address = await serve(app);
  const keys = { 'X-Outer-Key': 'o', 'X-Inner-Key': 'i' };
  const first = send(address, { headers: { ...keys, 'X-Name': 'first', 'X-Skip-Outer': '1' } });
  first.catch(() => undefined);
  await until('the first request runs', () => ran.length === 1);

  return {
    ran,
    async waitAndLeave() {
      const before = arrived;
      const client = get(address, { agent: false, headers: { ...keys, 'X-Name': 'second' } });
      client.on('error', () => undefined);
      await until('the second request is in the queue', () => arrived > before);
      // A connection answers in order, so the command of the second request has been answered.
      for (let turn = 0; turn < 2; turn++) await kit.locks.inspect('barrier');
      client.destroy();
    },
    retry: () => send(address, { headers: { ...keys, 'X-Name': 'retry', 'X-Skip-Inner': '1' } }),
    endFirst() {
      letGo();
      return first;
    },
  } satisfies Queue;
}

/**
 * Checks that the disconnected request holds nothing while the other request still runs, and that the kit can close.
 */
async function leavesNothingHeld(kit: RedisKit, { waitAndLeave, retry, endFirst, ran }: Queue) {
  await waitAndLeave();
  await until('the retry runs', async () => (await retry()).text === 'retry', 5_000);
  expect((await endFirst()).text).toBe('first');
  await kit.close({ timeout: '60s' });
  expect(ran).not.toContain('second');
}

describeOnBothEngines('a client that disconnects while its request waits', (url) => {
  it.each(PAIRS)('a disconnect during a wait in $name leaves nothing held', async ({ outer, inner }) => {
    const kit = kitForTest({ url: url() });
    const [, makeApp] = APPS[0] ?? expect.unreachable();
    const [above, below] = [OUTER[outer] ?? expect.unreachable(), INNER[inner] ?? expect.unreachable()];
    await leavesNothingHeld(kit, await queueOf(kit, makeApp, above(kit), below(kit)));
  });
});

describe.each(APPS)('a client that disconnects while its request waits, on %s', (_, makeApp) => {
  it.each(Object.keys(INNER))(
    'a disconnect during a wait in %s releases all holds of the middleware above',
    async (inner) => {
      const kit = kitForTest({ url: 'memory:' });
      const below = INNER[inner] ?? expect.unreachable();
      const above = [
        kit.concurrency({ key: () => 'all', name: 'o', limit: 1 }),
        kit.lock({ key: () => 'o' }),
      ];
      const outer: Middleware = (req, res, next) => above[0]?.(req, res, () => above[1]?.(req, res, next));
      await leavesNothingHeld(kit, await queueOf(kit, makeApp, outer, below(kit)));
    },
  );
});
