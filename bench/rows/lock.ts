import { Redis } from 'ioredis';
import { Mutex } from 'redis-semaphore';
import Redlock from 'redlock';
import { appWith, bareHandler, type Row, type Setup, withKit } from '../row.ts';

const LEASE_MS = 15_000;

let orders = 0;

/** In turn a thousand keys, which no two requests want at once. */
const nextOrder = () => `order:${++orders % 1_000}`;

/** Acquires the lock before the handler, and releases it before the response, as a `finally` does. */
export const withRedlock =
  (key: () => string, retryCount: number): Setup =>
  ({ url, prefix }) => {
    const redlock = new Redlock([new Redis(url)], { retryCount });
    return appWith(async (_req, _res, next) => {
      const lock = await redlock.acquire([`${prefix}:${key()}`], LEASE_MS);
      await lock.release();
      next();
    });
  };

export const withSemaphore =
  (key: () => string): Setup =>
  ({ url, prefix }) => {
    const redis = new Redis(url);
    return appWith(async (_req, _res, next) => {
      const options = { lockTimeout: LEASE_MS, acquireTimeout: 600_000 };
      const mutex = new Mutex(redis, `${prefix}:${key()}`, options);
      await mutex.acquire();
      await mutex.release();
      next();
    });
  };

const idempotency = withKit((kit) => kit.idempotency({ methods: ['GET'], scope: () => 'ann' }));

export const lockRows: Readonly<Record<string, Row>> = {
  lock: {
    title: 'an uncontended lock',
    bare: bareHandler,
    kit: { 'kit.lock': withKit((kit) => kit.lock({ key: nextOrder })) },
    peers: { redlock: withRedlock(nextOrder, 0), 'redis-semaphore': withSemaphore(nextOrder) },
  },
  idempotency: {
    title: 'an idempotency key, new',
    bare: bareHandler,
    kit: { 'kit.idempotency': idempotency },
    peers: {},
    request: { headers: { 'Idempotency-Key': 'key-{n}' } },
  },
  replay: {
    title: 'an idempotency key, repeated',
    bare: bareHandler,
    kit: { 'kit.idempotency': idempotency },
    peers: {},
    request: { headers: { 'Idempotency-Key': 'key' } },
  },
  concurrency: {
    title: 'a concurrency limit',
    bare: bareHandler,
    kit: { 'kit.concurrency': withKit((kit) => kit.concurrency({ key: () => 'ann', limit: 1_000 })) },
    peers: {},
  },
};
