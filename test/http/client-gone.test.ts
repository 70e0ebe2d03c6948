import { once } from 'node:events';
import { get, type IncomingMessage, type ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { createRedisKit, type RedisKit } from '../../src/index.ts';
import { kitForTest } from '../support/kits.ts';
import { keepingLogger } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { serve } from '../support/web.ts';
import { APPS, onError } from './frameworks.ts';

type Next = (error?: unknown) => void;
type Middleware = (req: IncomingMessage, res: ServerResponse, next: Next) => void;

/** The client address as in Express: undefined once the connection is closed. */
const addressOf = ({ socket }: IncomingMessage) => socket.remoteAddress as string;
/** A callback that throws if the request has no client address. */
const networkOf = (req: IncomingMessage) => addressOf(req).split('.').slice(0, 3).join('.');

const RATE = { algorithm: 'sliding-window', limit: 10, window: '1m' } as const;
const KEYED = { methods: ['GET'] };
const SECRET = 'a secret of the tests';

/** Middleware of each feature that needs the client address and fails without one. */
const FEATURES: Readonly<Record<string, (kit: RedisKit) => Middleware>> = {
  'kit.rateLimit by the address': (kit) => kit.rateLimit(RATE),
  'kit.rateLimit whose key is undefined': (kit) => kit.rateLimit({ ...RATE, key: addressOf }),
  'kit.rateLimit whose key throws': (kit) => kit.rateLimit({ ...RATE, key: networkOf }),
  'kit.rateLimit whose skip throws': (kit) => kit.rateLimit({ ...RATE, skip: (req) => !networkOf(req) }),
  'kit.rateLimit of several policies': (kit) =>
    kit.rateLimit({
      policies: [
        { ...RATE, name: 'a', key: addressOf },
        { ...RATE, name: 'b' },
      ],
    }),
  'kit.concurrency by the address': (kit) => kit.concurrency({ limit: 1 }),
  'kit.concurrency whose key is undefined': (kit) => kit.concurrency({ limit: 1, key: addressOf }),
  'kit.concurrency whose limit throws': (kit) =>
    kit.concurrency({ key: () => 'all', limit: (req) => networkOf(req).length }),
  'kit.idempotency by the address': (kit) => kit.idempotency(KEYED),
  'kit.idempotency whose scope is undefined': (kit) => kit.idempotency({ ...KEYED, scope: addressOf }),
  'kit.idempotency whose fingerprint throws': (kit) =>
    kit.idempotency({ ...KEYED, scope: () => 'all', fingerprint: networkOf }),
  'kit.lock whose key is undefined': (kit) => kit.lock({ key: addressOf }),
  'kit.lock whose key throws': (kit) => kit.lock({ key: networkOf, wait: '1s' }),
  'kit.cache whose skip throws': (kit) => kit.cache({ ttl: '1m', skip: (req) => networkOf(req) === '' }),
  'kit.session whose genid throws': (kit) => kit.session({ secret: SECRET, genid: networkOf }),
};

/** A middleware that continues once the client has disconnected. */
function departure() {
  let arrived: () => void = () => undefined;
  const hasArrived = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const middleware: Middleware = (_req, res, next) => {
    arrived();
    void once(res, 'close').then(() => next());
  };
  const leave = async (address: string) => {
    const client = get(address, { agent: false, headers: { 'Idempotency-Key': 'k' } });
    client.on('error', () => undefined);
    await hasArrived;
    client.destroy();
  };
  return { middleware, leave };
}

describe.each(APPS)('a request whose client has disconnected, on %s', (_, makeApp) => {
  it.each(Object.keys(FEATURES))(
    'a request whose client has disconnected ends in %s without a log line',
    async (name) => {
      const logger = keepingLogger();
      const kit = kitForTest({ url: 'memory:', logger });
      const errors: unknown[] = [];
      const { middleware, leave } = departure();
      const app = makeApp();
      app.use(kit.lock({ key: () => 'held by the request' }));
      app.use(middleware);
      app.use((FEATURES[name] ?? expect.unreachable())(kit));
      let ran = 0;
      app.use((_req: IncomingMessage, res: ServerResponse) => {
        ran++;
        res.end();
      });
      onError(app, (error, res) => {
        errors.push(error);
        res.end();
      });
      await leave(await serve(app));
      await until(
        'the lock of the request is free',
        async () => !(await kit.locks.inspect('held by the request')).held,
      );
      expect([errors, ran, logger.lines]).toEqual([[], 0, []]);
    },
  );
});

it('a limiter in shadow mode passes on a request whose client has disconnected, without a log line', async () => {
  const logger = keepingLogger();
  const kit = kitForTest({ url: 'memory:', logger });
  const [, makeApp] = APPS[0] ?? expect.unreachable();
  const app = makeApp();
  const { middleware, leave } = departure();
  app.use(middleware);
  app.use(kit.rateLimit({ ...RATE, shadow: true }));
  let ran = 0;
  app.use(() => {
    ran++;
  });
  await leave(await serve(app));
  await until('the handler runs', () => ran === 1);
  expect(logger.lines).toEqual([]);
});

it('a request on a Unix socket, which has no client address, passes an error to the app', async () => {
  const kit = createRedisKit({ url: 'memory:', logger: false });
  const limit = kit.rateLimit(RATE);
  const errors: unknown[] = [];
  const address = await serve((req, res) => {
    Object.defineProperty(req.socket, 'remoteAddress', { value: undefined });
    limit(req, res, (error) => {
      errors.push(error);
      res.end();
    });
  });
  await fetch(address);
  expect(errors).toMatchObject([{ code: 'ERR_REDIS_KIT_NO_IDENTITY' }]);
  await kit.close();
});
