import express from 'express';
import { createRedisKit } from 'redis-kit';
import { startRedis } from '../test/support/servers.ts';
import { compare } from './compare.ts';

/* What it costs that a request runs once for its key, or so many at a time. */

const server = await startRedis();
const kit = createRedisKit({ url: server.url });
await kit.ready();

const answer: express.RequestHandler = (_req, res) => void res.send('paid');

function appWith(...handlers: express.RequestHandler[]) {
  return express()
    .disable('x-powered-by')
    .get('/', ...handlers);
}

const asked = { methods: ['GET'], scope: () => 'ann', fingerprint: () => 'x' };
/** The retention is shorter than a round, so that each key is new again in the next round. */
const once = kit.idempotency({ ...asked, retention: '500ms' });
const replayed = kit.idempotency(asked);

const plain = { status: 200, headers: [''] };

try {
  await compare('Idempotency keys and concurrency limits', server.url, [
    { name: 'bare handler', app: appWith(answer), ...plain },
    {
      name: 'kit.idempotency, a new key',
      app: appWith(once, answer),
      status: 200,
      headers: ['Idempotency-Key: k{n}\r\n'],
    },
    {
      name: 'kit.idempotency, a repeat',
      app: appWith(replayed, answer),
      status: 200,
      headers: ['Idempotency-Key: same\r\n'],
    },
    {
      name: 'kit.concurrency',
      app: appWith(kit.concurrency({ key: () => 'ann', limit: 1_000 }), answer),
      ...plain,
    },
  ]);
} finally {
  await kit.close();
  await server.stop();
}
