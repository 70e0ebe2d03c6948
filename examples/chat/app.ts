import { fileURLToPath } from 'node:url';
import express, { type Express, type Request } from 'express';
import type { RedisKit } from 'redis-kit';
import { Feed } from './feed.ts';
import type { Model } from './model.ts';
import { Reports } from './reports.ts';
import { HttpError, nameOf, noStore, problems, securityHeaders, textOf, userOf } from './requests.ts';
import { Summaries } from './summaries.ts';
import { threadRoutes } from './thread-routes.ts';
import { Threads } from './threads.ts';

const PUBLIC = fileURLToPath(new URL('public', import.meta.url));

export interface Chat {
  readonly app: Express;
  /** Goes on with the reports that were not finished when their process ended. */
  resume(): Promise<void>;
  /** Ends the event streams, which never end by themselves. Their pages reconnect. */
  endStreams(): void;
}

export function createChat(kit: RedisKit, model: Model, secret?: string): Chat {
  const feed = new Feed(kit);
  const threads = new Threads(kit, feed);
  const summaries = new Summaries(kit, feed, model);
  const reports = new Reports(kit, feed, model);
  const app = express();

  app.disable('x-powered-by');
  app.use(securityHeaders, express.static(PUBLIC));
  app.use('/api', noStore, express.json({ limit: '16kb' }), kit.session({ secret, idle: '7d' }));

  const logins = { algorithm: 'token-bucket', capacity: 20, refill: { tokens: 1, per: '5s' } } as const;
  app.post('/api/session', kit.rateLimit({ ...logins, name: 'logins' }), async (req, res) => {
    const user = nameOf(req);
    await req.session.login(user); // check a password before this line
    await threads.enterLobby(user);
    res.json({ user });
  });
  app.get('/api/session', (req, res) => res.json({ user: req.session.userId ?? null }));
  app.delete('/api/session', async (req, res) => {
    await req.session.logout();
    res.sendStatus(204);
  });

  app.get('/api/threads', async (req, res) => res.json(await threads.list(userOf(req))));
  app.post('/api/threads', async (req, res) => {
    res.status(201).json(await threads.create(userOf(req), textOf(req, 'title', 60)));
  });
  app.put('/api/invitations/:id', async (req, res) => {
    const hasJoined = await threads.join(req.params.id, userOf(req));
    if (!hasJoined) throw new HttpError(404, 'There is no such thread.');
    res.sendStatus(204);
  });
  app.use('/api/threads', threadRoutes(kit, { feed, threads, summaries, reports, model }));

  // One stream per page. After a lost connection, the browser asks for what follows the last event that it has.
  const channels = async (req: Request) =>
    (await threads.idsOf(userOf(req))).flatMap((id) => feed.channelsOf(id));
  const events = kit.sse({ channels, replay: feed.log, retry: '1s' });
  app.get('/api/events', events);

  app.use(problems);
  return { app, resume: () => reports.resume(), endStreams: () => events.close() };
}
