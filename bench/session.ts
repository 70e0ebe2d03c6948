import { RedisStore } from 'connect-redis';
import express, { type RequestHandler } from 'express';
import session from 'express-session';
import { createClient } from 'redis';
import { createRedisKit } from 'redis-kit';
import { startRedis } from '../test/support/servers.ts';
import { compare, type Subject } from './compare.ts';

const VISITORS = 200;
const SECRET = 'only for this bench';

declare module 'express-session' {
  interface SessionData {
    user: { id: string; name: string; roles: string[] };
    views: number;
  }
}

const server = await startRedis();
const client = createClient({ url: server.url });
await client.connect();
const kit = createRedisKit({ url: server.url });
await kit.ready();

const read: RequestHandler = (req, res) => res.json({ hello: req.session.user?.name });

const modify: RequestHandler = (req, res) => {
  req.session.views = (req.session.views ?? 0) + 1;
  res.json({ hello: req.session.user?.name });
};

function kitApp(name: string, handler: RequestHandler) {
  return appWith(kit.namespace(name).session({ secret: SECRET, idle: '30m' }), handler);
}

function connectRedisApp(name: string, handler: RequestHandler) {
  const store = new RedisStore({ client, prefix: `${name}:`, ttl: 1_800 });
  return appWith(session({ store, secret: SECRET, resave: false, saveUninitialized: false }), handler);
}

function appWith(sessions: RequestHandler, handler: RequestHandler) {
  const app = express();
  app.disable('x-powered-by');
  app.use(sessions);
  app.post('/login', (req, res) => {
    req.session.user = { id: 'u-123456', name: 'Ann Example', roles: ['editor', 'billing'] };
    res.json({});
  });
  app.get('/', handler);
  return app;
}

/** Logs visitors in, and returns their cookies. */
async function subject(name: string, app: express.Express): Promise<Subject> {
  const listening = app.listen(0, '127.0.0.1');
  await new Promise((resolve) => listening.once('listening', resolve));
  const address = listening.address();
  const port = typeof address === 'object' ? address?.port : undefined;
  const headers = await Promise.all(
    Array.from({ length: VISITORS }, async () => {
      const response = await fetch(`http://127.0.0.1:${port}/login`, { method: 'POST' });
      return `Cookie: ${response.headers.getSetCookie()[0]?.split(';')[0]}\r\n`;
    }),
  );
  listening.closeAllConnections();
  listening.close();
  return { name, app, status: 200, says: 'Ann Example', headers };
}

try {
  const bare = express().disable('x-powered-by');
  bare.get('/', (_req, res) => res.json({ hello: 'Ann Example' }));
  await compare('Sessions', server.url, [
    { name: 'bare handler', app: bare, status: 200, headers: ['Cookie: a=b\r\n'] },
    await subject('kit.session, read only', kitApp('kit-read', read)),
    await subject('express-session with connect-redis, read only', connectRedisApp('peer-read', read)),
    await subject('kit.session, modified', kitApp('kit-modified', modify)),
    await subject('express-session with connect-redis, modified', connectRedisApp('peer-modified', modify)),
  ]);
} finally {
  await kit.close();
  client.destroy();
  await server.stop();
}
