import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { sendUnavailable } from '../../../src/http/problem-details.ts';
import { addResponseHook } from '../../../src/http/response/guarded-response.ts';
import type { RedisKit } from '../../../src/index.ts';
import { kitForTest } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { send, serve } from '../../support/web.ts';
import { Gate } from '../exchange.ts';
import { APPS } from '../frameworks.ts';

const SECRET = 'a secret of the tests';
const RATE = { algorithm: 'sliding-window', limit: 1, window: '1m', key: () => 'k' } as const;
const KEYED = { methods: ['GET'], scope: () => 'all' };

type Middleware = (req: IncomingMessage, res: ServerResponse, next: (error?: unknown) => void) => void;
type Feature = (kit: RedisKit) => Middleware;

/** Middleware that refuses a request while Redis is unavailable. */
const WITHOUT_REDIS: Readonly<Record<string, Feature>> = {
  'kit.session': (kit) => kit.session({ secret: SECRET }),
  'kit.lock': (kit) => kit.lock({ key: () => 'k' }),
  'kit.idempotency': (kit) => kit.idempotency(KEYED),
  'kit.concurrency': (kit) => kit.concurrency({ limit: 1, onError: 'deny' }),
  'kit.rateLimit': (kit) => kit.rateLimit({ ...RATE, onError: 'deny' }),
  'kit.health': (kit) => kit.health(),
};

/** Middleware that answers the second request itself, while the first one runs. */
const SECOND_REQUEST: Readonly<Record<string, Feature>> = {
  'kit.lock': (kit) => kit.lock({ key: () => 'k' }),
  'kit.concurrency': (kit) => kit.concurrency({ limit: 1 }),
  'kit.rateLimit': (kit) => kit.rateLimit(RATE),
  'kit.idempotency': (kit) => kit.idempotency(KEYED),
};

const flush: Middleware = (_req, res, next) => {
  res.flushHeaders();
  next();
};

/** The cookie of a session. */
async function sessionCookie(): Promise<string> {
  const session = kitForTest({ url: 'memory:' }).session({ secret: SECRET, saveUninitialized: true });
  const address = await serve((req, res) => session(req, res, () => res.end()));
  const [cookie = ''] = (await send(address)).headers['set-cookie'] ?? [];
  return cookie.split(';', 1)[0] ?? '';
}

describe.each(APPS)('a response that has begun, on %s', (_name, makeApp) => {
  it.each(Object.keys(WITHOUT_REDIS))(
    'a response that has begun is closed when %s refuses the request because Redis is unavailable',
    async (name) => {
      const kit = kitForTest({ url: 'redis://127.0.0.1:1', commandTimeout: '100ms' });
      const app = makeApp();
      app.use(flush);
      app.use((WITHOUT_REDIS[name] ?? expect.unreachable())(kit));
      app.use((_req, res) => void res.end('the handler'));
      const address = await serve(app);
      const headers = { Cookie: await sessionCookie(), 'Idempotency-Key': 'k' };
      await expect(send(address, { headers })).rejects.toThrow('aborted');
    },
  );

  it.each(Object.keys(SECOND_REQUEST))(
    'a response that has begun is closed when %s refuses the request',
    async (name) => {
      const kit = kitForTest({ url: 'memory:' });
      const [entered, gate] = [new Gate(), new Gate()];
      const app = makeApp();
      app.use(flush);
      app.use((SECOND_REQUEST[name] ?? expect.unreachable())(kit));
      app.use((_req, res) => {
        entered.open();
        void gate.promise.then(() => res.end('the handler'));
      });
      const address = await serve(app);
      const headers = { 'Idempotency-Key': 'k' };
      const first = send(address, { headers });
      await entered.promise;
      await expect(send(address, { headers })).rejects.toThrow('aborted');
      gate.open();
      expect((await first).text).toBe('the handler');
    },
  );

  it('a response that has begun is closed when kit.idempotency has a recorded response to the request', async () => {
    const app = makeApp();
    app.use((req, res, next) => {
      if (req.url === '/begun') res.flushHeaders();
      req.url = '/';
      next();
    });
    const kit = kitForTest({ url: 'memory:' });
    app.use(kit.idempotency({ ...KEYED, fingerprint: () => 'same' }));
    app.use((_req, res) => void res.end('the handler'));
    const address = await serve(app);
    const headers = { 'Idempotency-Key': 'k' };
    expect((await send(address, { headers })).text).toBe('the handler');
    await expect(send(`${address}/begun`, { headers })).rejects.toThrow('aborted');
  });

  it('a response that has begun bypasses kit.cache, although a stored response could answer the request', async () => {
    const app = makeApp();
    app.use((req, res, next) => {
      if (req.headers['x-begun'] !== undefined) res.flushHeaders();
      next();
    });
    app.use(kitForTest({ url: 'memory:' }).cache({ ttl: '1m' }));
    let runs = 0;
    app.use((_req, res) => void res.end(`run ${++runs}`));
    const address = await serve(app);
    const texts: string[] = [];
    for (const headers of [{}, {}, { 'X-Begun': '1' }, {}] as Record<string, string>[]) {
      texts.push((await send(address, { headers })).text);
    }
    expect(texts).toEqual(['run 1', 'run 1', 'run 2', 'run 1']);
  });

  it('a request whose response has begun gives its lock back when another feature refuses it', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const app = makeApp();
    app.use(kit.lock({ key: () => 'held' }));
    app.use(flush);
    app.use(kit.rateLimit(RATE));
    app.use((_req, res) => void res.end('the handler'));
    const address = await serve(app);
    expect((await send(address)).text).toBe('the handler');
    await expect(send(address)).rejects.toThrow('aborted');
    await until('the lock is free', async () => !(await kit.locks.inspect('held')).held);
  });
});

it('a response that has ended is sent, although it waits for a hook when a feature refuses the request', async () => {
  const saved = new Gate();
  const address = await serve((_req, res) => {
    addResponseHook(res, { phase: 'session', beforeEnd: () => saved.promise });
    res.statusCode = 504;
    res.end('a timeout');
    sendUnavailable(res, 'lock');
    saved.open();
  });
  expect(await send(address)).toMatchObject({ status: 504, text: 'a timeout' });
});
