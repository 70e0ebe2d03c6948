import { setTimeout } from 'node:timers/promises';
import express from 'express';
import { createRedisKit } from 'redis-kit';

const kit = createRedisKit({ url: process.env.REDIS_URL || 'memory:', prefix: 'shop' });
const loginTries = { algorithm: 'token-bucket', capacity: 5, refill: { tokens: 1, per: '10s' } } as const;
const app = express();

app.use(express.json());
app.use(kit.session({ secret: process.env.SESSION_SECRET }));
app.use(kit.rateLimit({ algorithm: 'sliding-window', limit: 100, window: '1m' }));

const byUser = (req: express.Request) => `user:${req.body?.user ?? req.ip}`;
app.post('/login', kit.rateLimit({ ...loginTries, key: byUser }), async (req, res) => {
  if (typeof req.body?.user !== 'string') return void res.sendStatus(400);
  await req.session.login(req.body.user); // check the password before this line
  res.json({ hello: req.session.userId });
});
app.get('/me', (req, res) => res.json({ user: req.session.userId ?? null }));
app.get('/products', kit.cache({ ttl: '30s' }), (_req, res) => res.json({ listedAt: Date.now() }));
const orderLock = kit.lock({ key: (req) => `order:${req.params.id}` });
app.post('/orders/:id/pay', kit.idempotency(), orderLock, async (req, res) => {
  await setTimeout(200); // calls the payment provider
  res.json({ paid: req.params.id, fence: req.lock?.fence });
});

const server = app.listen(Number(process.env.PORT ?? 3000), () => console.log('ready on', server.address()));
process.on('SIGTERM', () => server.close(() => kit.close()));
