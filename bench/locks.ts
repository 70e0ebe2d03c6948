import express from 'express';
import { Redis } from 'ioredis';
import { createRedisKit } from 'redis-kit';
import { Mutex } from 'redis-semaphore';
import Redlock from 'redlock';
import { startRedis } from '../test/support/servers.ts';
import { compare } from './compare.ts';
import { compareWaiting } from './waiting.ts';

const LEASE_MS = 15_000;

const server = await startRedis();
const kit = createRedisKit({ url: server.url });
await kit.ready();
const ioredis = new Redis(server.url);
const redlock = new Redlock([ioredis], { retryCount: 0 });
const patient = new Redlock([ioredis], { retryCount: -1 });
let orders = 0;
const nextKey = () => `order:${++orders % 1_000}`;

const answer: express.RequestHandler = (_req, res) => void res.send('paid');

function appWith(...handlers: express.RequestHandler[]) {
  return express()
    .disable('x-powered-by')
    .get('/', ...handlers);
}

async function withMutex(key: string, work: () => void): Promise<void> {
  const mutex = new Mutex(ioredis, key, { lockTimeout: LEASE_MS, acquireTimeout: 600_000 });
  await mutex.acquire();
  try {
    work();
  } finally {
    await mutex.release();
  }
}

const withRedlock: express.RequestHandler = async (_req, res) => {
  const lock = await redlock.acquire([`redlock:${nextKey()}`], LEASE_MS);
  await lock.release();
  res.send('paid');
};

const withSemaphore: express.RequestHandler = async (_req, res) => {
  await withMutex(`semaphore:${nextKey()}`, () => undefined);
  res.send('paid');
};

const subject = (name: string, app: express.Express) => ({ name, app, status: 200, headers: [''] });

try {
  await compare('An uncontended lock', server.url, [
    subject('bare handler', appWith(answer)),
    subject('kit.lock', appWith(kit.lock({ key: nextKey }), answer)),
    subject('redlock 5', appWith(withRedlock)),
    subject('redis-semaphore 5.8', appWith(withSemaphore)),
  ]);
  await compareWaiting(server.url, [
    { name: 'kit.locks, fair', take: (key, work) => kit.locks.using(key, { wait: '10m' }, work) },
    {
      name: 'kit.locks, `fair: false`',
      take: (key, work) => kit.locks.using(key, { wait: '10m', fair: false }, work),
    },
    {
      name: 'redlock 5',
      take: async (key, work) => {
        const lock = await patient.acquire([key], LEASE_MS);
        work();
        await lock.release();
      },
    },
    { name: 'redis-semaphore 5.8', take: withMutex },
  ]);
} finally {
  ioredis.disconnect();
  await kit.close();
  await server.stop();
}
