import { type Request, Router } from 'express';
import type { RedisKit } from 'redis-kit';
import type { Feed } from './feed.ts';
import type { Model } from './model.ts';
import type { Reports } from './reports.ts';
import { cursorOf, HttpError, textOf, userOf } from './requests.ts';
import type { Summaries } from './summaries.ts';
import type { Threads } from './threads.ts';

interface Parts {
  readonly feed: Feed;
  readonly threads: Threads;
  readonly summaries: Summaries;
  readonly reports: Reports;
  readonly model: Model;
}

/** The routes of one thread. They are for its subscribers; for other users, the thread does not exist. */
export function threadRoutes(kit: RedisKit, { feed, threads, summaries, reports, model }: Parts): Router {
  const router = Router();
  const posts = { algorithm: 'token-bucket', capacity: 10, refill: { tokens: 1, per: '2s' } } as const;
  const limit = kit.rateLimit({ ...posts, name: 'posts', key: (req) => req.session.userId ?? null });

  router.param('thread', async (req, res, next, id: string) => {
    res.locals.user = userOf(req);
    res.locals.thread = await threads.find(id, res.locals.user);
    next(res.locals.thread === undefined ? new HttpError(404, 'There is no such thread.') : undefined);
  });

  router.get('/:thread', async (_req, res) => {
    const { thread, user } = res.locals;
    await threads.subscribe(thread.id, user);
    const [subscribers, messages, summary, report] = await Promise.all([
      threads.subscribers(thread.id),
      feed.last(thread.id, 50),
      summaries.get(thread.id),
      reports.get(thread.id),
    ]);
    res.json({ ...thread, subscribers, messages, summary, report });
  });

  router.get('/:thread/messages', async (req, res) => {
    res.json(await feed.after(res.locals.thread.id, cursorOf(req.query.after), 100));
  });

  router.put('/:thread/read', async (_req, res) => {
    await threads.markRead(res.locals.thread.id, res.locals.user);
    res.sendStatus(204);
  });

  router.delete('/:thread/subscription', async (_req, res) => {
    await threads.unsubscribe(res.locals.thread.id, res.locals.user);
    res.sendStatus(204);
  });

  router.post('/:thread/messages', limit, kit.idempotency(), async (req, res) => {
    const { thread, user: author } = res.locals;
    const text = textOf(req, 'text', 2_000);
    const id = await threads.post({ thread: thread.id, author, role: 'user', text });
    await summaries.refresh(thread.id);
    res.status(201).json({ id });
  });

  // One answer at a time in a thread, so that an answer knows the one before it.
  const turn = { key: (req: Request) => `answer:${req.params.thread}`, lease: '10s', wait: '1m' } as const;
  const answer = kit.lock(turn, async (_req, res, lock) => {
    const thread = res.locals.thread.id;
    await feed.notify(thread, 'answering');
    const lines = (await feed.last(thread, 20)).map(({ event }) => event);
    const text = await model({ task: 'answer', lines }, { signal: lock.signal });
    lock.assertHeld();
    const id = await threads.post({ thread, author: 'Assistant', role: 'assistant', text });
    await summaries.refresh(thread);
    res.status(201).json({ id });
  });
  router.post('/:thread/answers', limit, answer);

  router.post('/:thread/reports', limit, async (_req, res) => {
    res.status(202).json(await reports.start(res.locals.thread.id, res.locals.user));
  });

  return router;
}
