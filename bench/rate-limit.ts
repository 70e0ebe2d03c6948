import express, { type RequestHandler } from 'express';
import { type ClientRateLimitInfo, rateLimit } from 'express-rate-limit';
import { RedisStore } from 'rate-limit-redis';
import { RateLimiterRedis } from 'rate-limiter-flexible';
import { createClient } from 'redis';
import { createRedisKit } from 'redis-kit';
import { startRedis } from '../test/support/servers.ts';
import { compare, type Subject } from './compare.ts';

/** The number of clients that send requests in turn. None comes near its limit. */
const CLIENTS = Array.from({ length: 500 }, (_, index) => `X-Client: client-${index}\r\n`);
const LIMIT = 1_000;

const server = await startRedis();
const client = createClient({ url: server.url });
await client.connect();
const kit = createRedisKit({ url: server.url });
await kit.ready();

const clientOf = (req: express.Request) => String(req.headers['x-client']);

function appWith(...middleware: RequestHandler[]) {
  const app = express();
  app.disable('x-powered-by');
  for (const each of middleware) app.use(each);
  app.get('/', (_req, res) => res.json({ ok: true }));
  return app;
}

/** One limiter of each kind, for the same limit. */
function limiters(limit: number, name: string): readonly (readonly [string, RequestHandler])[] {
  const window = { algorithm: 'sliding-window', limit, window: '1m', name: `${name}-window` } as const;
  const refill = { tokens: limit, per: '1m' } as const;
  const bucket = { algorithm: 'token-bucket', capacity: limit, refill, name: `${name}-bucket` } as const;
  return [
    ['kit.rateLimit, sliding window (exact)', kit.rateLimit({ ...window, key: clientOf })],
    ['kit.rateLimit, token bucket (exact)', kit.rateLimit({ ...bucket, key: clientOf })],
    ['express-rate-limit with rate-limit-redis (fixed window)', expressRateLimit(limit, name)],
    ['rate-limiter-flexible (fixed window)', flexible(limit, name)],
  ];
}

function expressRateLimit(limit: number, name: string): RequestHandler {
  return rateLimit({
    windowMs: 60_000,
    limit,
    standardHeaders: 'draft-8',
    legacyHeaders: false,
    keyGenerator: clientOf,
    store: new RedisStore({
      prefix: `${name}-express:`,
      sendCommand: (...args: string[]) =>
        client.sendCommand(args) as Promise<ClientRateLimitInfo['totalHits']>,
    }),
  });
}

/** Set up as its documentation shows for Express. */
function flexible(limit: number, name: string): RequestHandler {
  const limiter = new RateLimiterRedis({
    storeClient: client,
    useRedisPackage: true,
    keyPrefix: `${name}-flexible`,
    points: limit,
    duration: 60,
  });
  const headersOf = ({
    msBeforeNext,
    remainingPoints,
  }: {
    msBeforeNext: number;
    remainingPoints: number;
  }) => ({
    'X-RateLimit-Limit': String(limit),
    'X-RateLimit-Remaining': String(remainingPoints),
    'X-RateLimit-Reset': String(Math.ceil(msBeforeNext / 1_000)),
  });
  return (req, res, next) => {
    limiter.consume(clientOf(req)).then(
      (result) => {
        res.set(headersOf(result));
        next();
      },
      (refusal) => {
        if (refusal instanceof Error) return next(refusal);
        res.set({ ...headersOf(refusal), 'Retry-After': String(Math.ceil(refusal.msBeforeNext / 1_000)) });
        res.status(429).send('Too Many Requests');
      },
    );
  };
}

const bare: Subject = { name: 'bare handler', app: appWith(), status: 200, headers: CLIENTS };
const allowed = limiters(LIMIT, 'allowed').map(
  ([name, limit]): Subject => ({ name, app: appWith(limit), status: 200, headers: CLIENTS }),
);
const refused = limiters(1, 'refused').map(
  ([name, limit]): Subject => ({ name, app: appWith(limit), status: 429, headers: ['X-Client: one\r\n'] }),
);

try {
  await compare('Allowed requests', server.url, [bare, ...allowed]);
  await Promise.all(refused.map(async ({ app }) => useUp(app)));
  await compare('Refused requests', server.url, [bare, ...refused]);
} finally {
  await kit.close();
  client.destroy();
  await server.stop();
}

/** Sends the first request of the only client, which is still allowed. */
async function useUp(app: express.RequestHandler): Promise<void> {
  const listening = express().use(app).listen(0, '127.0.0.1');
  await new Promise((resolve) => listening.once('listening', resolve));
  const address = listening.address();
  const port = typeof address === 'object' ? address?.port : undefined;
  await fetch(`http://127.0.0.1:${port}/`, { headers: { 'X-Client': 'one' } });
  listening.closeAllConnections();
  listening.close();
}
