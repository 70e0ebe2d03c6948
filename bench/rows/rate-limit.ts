import type { Request, RequestHandler } from 'express';
import { type ClientRateLimitInfo, rateLimit } from 'express-rate-limit';
import { RedisStore } from 'rate-limit-redis';
import { RateLimiterRedis, type RateLimiterRes } from 'rate-limiter-flexible';
import type { Connections } from '../connections.ts';
import { appWith, bareHandler, type Row, type Setup, withKit } from '../row.ts';

type KeyOf = (req: Request) => string;

/** The limit of one client in a minute. */
export interface Limit {
  readonly limit: number;
  readonly key?: KeyOf;
  readonly name?: string;
}

export const PEER = 'express-rate-limit + rate-limit-redis';
const FLEXIBLE = 'rate-limiter-flexible';

export const clientOf: KeyOf = (req) => String(req.headers['x-client']);
const tenantOf: KeyOf = () => 'tenant';

export const slidingWindow = (limit: number, name = 'window') =>
  ({ algorithm: 'sliding-window', limit, window: '1m', name }) as const;

export const tokenBucket = (limit: number, name = 'bucket') =>
  ({ algorithm: 'token-bucket', capacity: limit, refill: { tokens: limit, per: '1m' }, name }) as const;

export async function peerLimit(
  { connectClient, prefix }: Connections,
  { limit, key, name = 'limit' }: Limit,
): Promise<RequestHandler> {
  const redis = await connectClient();
  return rateLimit({
    windowMs: 60_000,
    limit,
    standardHeaders: 'draft-8',
    legacyHeaders: false,
    ...(key && { keyGenerator: key }),
    store: new RedisStore({
      prefix: `${prefix}:${name}:`,
      sendCommand: (...args: string[]): Promise<ClientRateLimitInfo['totalHits']> => redis.sendCommand(args),
    }),
  });
}

/** Set up as its documentation shows for Express, with its own memory of refusals. */
async function flexibleLimit(
  { connectClient, prefix }: Connections,
  { limit, key }: Limit,
): Promise<RequestHandler> {
  const limiter = new RateLimiterRedis({
    storeClient: await connectClient(),
    useRedisPackage: true,
    keyPrefix: prefix,
    points: limit,
    duration: 60,
    inMemoryBlockOnConsumed: limit + 1,
  });
  const headersOf = ({ msBeforeNext, remainingPoints }: RateLimiterRes) => ({
    'X-RateLimit-Limit': String(limit),
    'X-RateLimit-Remaining': String(remainingPoints),
    'X-RateLimit-Reset': String(Math.ceil(msBeforeNext / 1_000)),
  });
  return async (req, res, next) => {
    try {
      res.set(headersOf(await limiter.consume(key?.(req) ?? req.ip ?? '')));
    } catch (refusal) {
      if (refusal instanceof Error) return next(refusal);
      const refused = refusal as RateLimiterRes;
      res.set({ ...headersOf(refused), 'Retry-After': String(Math.ceil(refused.msBeforeNext / 1_000)) });
      res.status(429).send('Too Many Requests');
      return;
    }
    next();
  };
}

function peers(limit: Limit): Readonly<Record<string, Setup>> {
  return {
    [PEER]: async (connections) => appWith(await peerLimit(connections, limit)),
    [FLEXIBLE]: async (connections) => appWith(await flexibleLimit(connections, limit)),
  };
}

const client = { limit: 1_000, key: clientOf };
const tenant = { limit: 100_000_000, key: tenantOf };
const once = { limit: 1 };

export const rateLimitRows: Readonly<Record<string, Row>> = {
  limit: {
    title: 'a limit of 5,000 clients, allowed',
    bare: bareHandler,
    kit: {
      'kit.rateLimit, token bucket': withKit((kit) =>
        kit.rateLimit({ ...tokenBucket(1_000), key: clientOf }),
      ),
      'kit.rateLimit, sliding window': withKit((kit) =>
        kit.rateLimit({ ...slidingWindow(1_000), key: clientOf }),
      ),
    },
    peers: peers(client),
    request: { headers: { 'X-Client': 'client-{n}' }, cycle: 5_000 },
  },
  reserve: {
    title: 'a limit of one tenant, allowed',
    bare: bareHandler,
    kit: {
      'kit.rateLimit, reserved by 100': withKit((kit) =>
        kit.rateLimit({ ...slidingWindow(tenant.limit), key: tenantOf, reserve: { units: 100 } }),
      ),
      'kit.rateLimit, token bucket': withKit((kit) =>
        kit.rateLimit({ ...tokenBucket(tenant.limit), key: tenantOf }),
      ),
    },
    peers: peers(tenant),
  },
  refused: {
    title: 'a known refusal',
    bare: bareHandler,
    kit: {
      'kit.rateLimit': withKit((kit) => kit.rateLimit(slidingWindow(1))),
      'kit.front': async (connections) => {
        const kit = await connections.connectKit();
        return kit.front(appWith(kit.rateLimit({ ...slidingWindow(1), front: true })));
      },
    },
    peers: peers(once),
    request: { status: 429 },
  },
};
