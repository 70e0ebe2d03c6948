import apicache from 'apicache';
import express from 'express';
import { createRedisKit } from 'redis-kit';
import { startRedis } from '../test/support/servers.ts';
import { compare } from './compare.ts';

const products = Array.from({ length: 100 }, (_, id) => ({
  id,
  name: `Product ${id}`,
  price: id * 7.5,
  stock: id % 9,
}));
const bytes = Buffer.from(JSON.stringify(products));

const server = await startRedis();
const kit = createRedisKit({ url: server.url });
await kit.ready();

const sendBytes: express.RequestHandler = (_req, res) => res.type('json').send(bytes);
const sendJson: express.RequestHandler = (_req, res) => res.json(products);

function appWith(...handlers: express.RequestHandler[]) {
  return express()
    .disable('x-powered-by')
    .get('/', ...handlers);
}

const subject = (name: string, app: express.Express) => ({ name, app, status: 200, headers: [''] });

try {
  await compare(`Cached responses of ${bytes.length.toLocaleString('en')} bytes`, server.url, [
    subject('bare handler that sends the same bytes', appWith(sendBytes)),
    subject('bare handler that makes the JSON each time', appWith(sendJson)),
    subject('kit.cache, held in the process', appWith(kit.cache({ ttl: '1h' }), sendJson)),
    subject('kit.cache, in Redis', appWith(kit.cache({ ttl: '1h', local: false }), sendJson)),
    subject('apicache 1.6, in the process', appWith(apicache.middleware('1 hour'), sendJson)),
  ]);
} finally {
  await kit.close();
  await server.stop();
}
// apicache sets a timer of an hour for each of the first concurrent responses, and its clear() ends one of them only.
process.exit();
