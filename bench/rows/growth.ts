import type { RequestHandler } from 'express';
import { appWith, bareHandler, type Growth, type Row, type Setup, withKit } from '../row.ts';
import { peerCache } from './cache.ts';
import { withRedlock, withSemaphore } from './lock.ts';
import { clientOf, type Limit, PEER, peerLimit, slidingWindow, tokenBucket } from './rate-limit.ts';

const HUGE = 100_000_000;
const tenantOf = () => 'tenant';

const withPeerLimits =
  (...limits: readonly Limit[]): Setup =>
  async (connections) =>
    appWith(...(await Promise.all(limits.map((limit) => peerLimit(connections, limit)))));

function identities(count: number): Row {
  return {
    title: `${count} identities`,
    bare: bareHandler,
    kit: {
      'token bucket': withKit((kit) => kit.rateLimit({ ...tokenBucket(HUGE), key: clientOf })),
      'sliding window': withKit((kit) => kit.rateLimit({ ...slidingWindow(HUGE), key: clientOf })),
    },
    peers: { [PEER]: withPeerLimits({ limit: HUGE, key: clientOf }) },
    request: { headers: { 'X-Client': 'client-{n}' }, cycle: count },
  };
}

/**
 * A window of as many milliseconds, with more than one request in each of them, has the log of a limit of which each unit
 * was used in a millisecond of its own.
 */
function limits(count: number): Row {
  const windowMs = count;
  const withWindow =
    (resolution?: number): Setup =>
    async (connections) => {
      const kit = await connections.connectKit();
      const policy = { algorithm: 'sliding-window', limit: HUGE, window: windowMs, resolution } as const;
      const middleware = kit.rateLimit({ ...policy, name: 'log', key: tenantOf });
      const end = performance.now() + windowMs;
      while (performance.now() < end) await middleware.limiter.consume('tenant');
      return appWith(middleware);
    };
  return {
    title: `a limit of ${count}`,
    bare: bareHandler,
    kit: {
      'sliding window': withWindow(),
      'with a resolution of a hundredth': withWindow(Math.max(1, windowMs / 100)),
    },
    peers: { [PEER]: withPeerLimits({ limit: HUGE, key: tenantOf }) },
    request: { measuresKeys: true },
  };
}

function policies(count: number): Row {
  const names = Array.from({ length: count }, (_, index) => `policy-${index}`);
  return {
    title: `${count} policies`,
    bare: bareHandler,
    kit: {
      'token buckets': withKit((kit) =>
        kit.rateLimit({ policies: names.map((name) => tokenBucket(HUGE, name)), key: clientOf }),
      ),
    },
    peers: { [PEER]: withPeerLimits(...names.map((name) => ({ limit: HUGE, key: clientOf, name }))) },
    request: { headers: { 'X-Client': 'client-{n}' }, cycle: 5_000 },
  };
}

function bodies(bytes: number): Row {
  const body = Buffer.alloc(bytes, 'x');
  const sendBody: RequestHandler = (_req, res) => {
    res.type('text').send(body);
  };
  const stored = { ttl: '1h', maxBody: 16 * 2 ** 20 } as const;
  return {
    title: `bodies of ${bytes} bytes`,
    bare: () => appWith(sendBody),
    kit: {
      'held in the process': withKit((kit) => [
        kit.cache({ ...stored, local: { maxBytes: 64 * 2 ** 20 } }),
        sendBody,
      ]),
      'in Redis': withKit((kit) => [kit.cache({ ...stored, local: false }), sendBody]),
    },
    peers: {
      apicache: () => appWith(peerCache(), sendBody),
    },
    request: { connections: bytes < 1_000_000 ? 32 : 2 },
  };
}

/** redlock and redis-semaphore try again and again; a thousand of their waiters would take minutes. */
const MOST_RETRIED = 100;

function waiters(count: number): Row {
  const key = () => 'wanted';
  return {
    title: `${count} waiters`,
    bare: bareHandler,
    kit: { 'kit.lock': withKit((kit) => kit.lock({ key, wait: '10m' })) },
    peers:
      count > MOST_RETRIED ? {} : { redlock: withRedlock(key, -1), 'redis-semaphore': withSemaphore(key) },
    request: { connections: count },
  };
}

function processes(count: number): Row {
  return {
    title: `${count} processes`,
    bare: bareHandler,
    kit: {
      'reserved by 100': withKit((kit) =>
        kit.rateLimit({ ...slidingWindow(HUGE), key: tenantOf, reserve: { units: 100 } }),
      ),
      'token bucket': withKit((kit) => kit.rateLimit({ ...tokenBucket(HUGE), key: tenantOf })),
    },
    peers: { [PEER]: withPeerLimits({ limit: HUGE, key: tenantOf }) },
    request: { processes: count },
  };
}

export const growths: Readonly<Record<string, Growth>> = {
  identities: {
    title: 'Identities of a limiter',
    of: 'identities',
    points: [1, 10, 100, 1_000, 10_000, 100_000],
    shows: ['cpu', 'redis'],
    rowAt: identities,
  },
  limits: {
    title: 'The limit of a sliding window',
    of: 'limit',
    points: [10, 100, 1_000, 10_000, 100_000],
    shows: ['cpu', 'redis', 'bytes'],
    rowAt: limits,
  },
  policies: {
    title: 'Policies of a limiter',
    of: 'policies',
    points: [1, 2, 4, 8, 16],
    shows: ['cpu', 'redis', 'commands'],
    rowAt: policies,
  },
  bodies: {
    title: 'The body of a cached response',
    of: 'bytes',
    points: [1_000, 10_000, 100_000, 1_000_000, 10_000_000],
    shows: ['cpu', 'redis'],
    rowAt: bodies,
  },
  waiters: {
    title: 'Waiters for a lock',
    of: 'waiters',
    points: [1, 10, 100, 1_000],
    shows: ['msEach', 'commands', 'redis'],
    rowAt: waiters,
  },
  processes: {
    title: 'Processes that share the limit of one tenant',
    of: 'processes',
    points: [1, 2, 4, 8],
    shows: ['cpu', 'perSecond', 'redis', 'commands'],
    rowAt: processes,
  },
};
