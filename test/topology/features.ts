import express, { type RequestHandler } from 'express';
import { expect, it } from 'vitest';
import type { RedisKit } from '../../src/index.ts';
import { Gate } from '../http/exchange.ts';
import { openEvents } from '../sse/events.ts';
import type { MakeKit } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { type Sent, send, serve } from '../support/web.ts';

const SECRET = 'a secret of the tests';

/** One or two tests for each feature, as two processes of an app use it. */
export function promisesOfEveryFeature(makeKit: MakeKit): void {
  /** Creates two kits with one prefix; on `memory:`, which no two kits share, one kit. */
  function startKits() {
    const kit = makeKit();
    return { kit, kits: kit.client === null ? [kit] : [kit, makeKit({ prefix: kit.prefix })] };
  }

  /** Serves the same routes on the kits of `startKits()`. */
  async function startTwice(
    routesOf: (kit: RedisKit) => Readonly<Record<string, readonly RequestHandler[]>>,
  ) {
    const { kit, kits } = startKits();
    const one = await serve(appOf(routesOf(kit)));
    const other = kits[1] === undefined ? one : await serve(appOf(routesOf(kits[1])));
    // Responses are stored by host.
    const sendTo =
      (address: string) =>
      (path: string, sent: Sent = {}) =>
        send(`${address}${path}`, { ...sent, headers: { host: 'app.test', ...sent.headers } });
    const [askOne, askOther] = [sendTo(one), sendTo(other)];
    const askBoth = (path: string, sent?: Sent) => Promise.all([askOne(path, sent), askOther(path, sent)]);
    return { kit, askOne, askOther, askBoth };
  }

  it('a session survives a login, and parallel requests lose no change of it', async () => {
    const { askOne, askBoth } = await startTwice((kit) => ({
      '/login': [
        kit.session({ secret: SECRET }),
        async (req, res) => {
          await req.session.login('ann');
          res.end();
        },
      ],
      '/set/:name': [
        kit.session({ secret: SECRET }),
        (req, res) => {
          Object.assign(req.session, { [String(req.params.name)]: true });
          res.end();
        },
      ],
      '/get': [kit.session({ secret: SECRET }), (req, res) => void res.json(req.session)],
    }));
    const login = await askOne('/login');
    const headers = { cookie: String(login.headers['set-cookie']?.[0]?.split(';')[0]) };
    const names = Array.from({ length: 5 }, (_, index) => `name-${index}`);
    await Promise.all(names.map((name) => askBoth(`/set/${name}`, { headers })));
    for (const { text } of await askBoth('/get', { headers })) {
      expect(JSON.parse(text)).toMatchObject({
        userId: 'ann',
        ...Object.fromEntries(names.map((name) => [name, true])),
      });
    }
  });

  it.each([
    ['a sliding window', { algorithm: 'sliding-window', limit: 5, window: '1h' } as const],
    ['a token bucket', { algorithm: 'token-bucket', capacity: 5, refill: { tokens: 1, per: '1h' } } as const],
  ])('%s allows exactly its limit to parallel requests of two processes', async (_name, policy) => {
    const { askBoth } = await startTwice((kit) => ({ '/': [kit.rateLimit(policy), end('allowed')] }));
    const rounds = await Promise.all(Array.from({ length: 10 }, () => askBoth('/')));
    const statuses = rounds.flat().map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(5);
    expect(statuses.filter((status) => status === 429)).toHaveLength(15);
  });

  it('a stored response is used by both processes until one of them purges it', async () => {
    let made = 0;
    const { kit, askOne, askOther, askBoth } = await startTwice((kit) => ({
      '/page': [kit.cache({ ttl: '1h', tags: ['pages'] }), (_req, res) => void res.send(`page ${++made}`)],
    }));
    let stored = '';
    await until('both use the stored response', async () => {
      const [here, there] = await askBoth('/page');
      stored = here.text;
      return there.text === stored && [here, there].every(({ headers }) => headers.age !== undefined);
    });
    await kit.invalidate({ tags: 'pages' });
    expect((await askOne('/page')).text).not.toBe(stored);
    await until('the other process has the purge', async () => (await askOther('/page')).text !== stored);
  });

  it('a lock passes to the waiting request of another process, with a larger fencing token', async () => {
    const { kit: first, askOther } = await startTwice((kit) => ({
      '/': [kit.lock({ key: () => 'a', wait: '1m' }), (req, res) => void res.json(req.lock?.fence)],
    }));
    const held = await first.locks.acquire('a');
    const answer = askOther('/');
    await until('the request waits', async () => (await first.locks.inspect('a')).waiters === 1);
    await held.release();
    expect(Number((await answer).text)).toBeGreaterThan(held.fence);
    expect(await first.locks.inspect('a')).toEqual({ held: false, waiters: 0 });
  });

  it('repeats of a request with an idempotency key run once in all processes', async () => {
    let runs = 0;
    const { askBoth } = await startTwice((kit) => ({
      '/pay': [
        kit.idempotency({
          methods: ['POST'],
          scope: () => 'all',
          inFlight: 'wait',
          fingerprint: () => 'same',
        }),
        (_req, res) => void res.status(201).send(`payment ${++runs}`),
      ],
    }));
    const sent = { method: 'POST', headers: { 'Idempotency-Key': '"a-key-of-the-tests"' } };
    const answers = [...(await askBoth('/pay', sent)), ...(await askBoth('/pay', sent))];
    expect(answers.map(({ status, text }) => [status, text])).toEqual(Array(4).fill([201, 'payment 1']));
  });

  it('a concurrency limit refuses the request of another process while its slot is taken', async () => {
    const entered = new Gate();
    const leave = new Gate();
    const { askOne, askOther } = await startTwice((kit) => ({
      '/': [
        kit.concurrency({ limit: 1 }),
        async (_req, res) => {
          entered.open();
          await leave.promise;
          res.send('done');
        },
      ],
    }));
    const running = askOne('/');
    await entered.promise;
    expect((await askOther('/')).status).toBe(429);
    leave.open();
    expect((await running).text).toBe('done');
    expect((await askOther('/')).status).toBe(200);
  });

  it('a message reaches the subscribers of its channel in both processes, and no others', async () => {
    const { kit, kits } = startKits();
    const seen: unknown[] = [];
    for (const each of kits) {
      await each.subscribe('news', (data, channel) => seen.push([channel, data]));
      await each.subscribe('new', (data) => seen.push(data));
    }
    await kit.publish('news', { n: 1 });
    await until('the message arrives', () => seen.length >= kits.length);
    expect(seen).toEqual(kits.map(() => ['news', { n: 1 }]));
  });

  it('a log has the events of both processes in one order, and a follower receives each once', async () => {
    const kit = makeKit();
    const isShared = kit.client !== null;
    const logs = [kit, isShared ? makeKit({ prefix: kit.prefix }) : kit].map((each) =>
      each.log<number>('chat', { ttl: '1h' }),
    );
    const followed: number[] = [];
    await logs[0]?.follow('room', ({ event }) => followed.push(event), { after: '0-0' });
    await Promise.all(Array.from({ length: 20 }, (_, number) => logs[number % 2]?.append('room', number)));
    await until('the follower has all', () => followed.length >= 20);
    expect((await logs[1]?.last('room', 100))?.map(({ event }) => event)).toEqual(followed);
    expect([...followed].sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, number) => number));
  });

  it('two processes share state, lose no update of a document, and see the same members', async () => {
    const { kit, askBoth } = await startTwice((kit) => ({
      '/': [
        kit.state({
          app: { ttl: '1h' },
          user: { id: () => 'ann', ttl: '1h' },
          touch: 'read',
        }) as RequestHandler,
        async (req, res) => {
          const n = await req.state.app.increment('requests');
          await req.state.user?.patch({ last: n, name: 'ann' });
          await kit.documents<number[]>('lists', { ttl: '1h' }).update('a', (list = []) => [...list, n]);
          await kit.members('visits', { ttl: '1h' }).add('a', `visit ${n}`);
          res.json(n);
        },
      ],
    }));
    const answers = (await Promise.all(Array.from({ length: 5 }, () => askBoth('/')))).flat();
    const numbers = answers.map(({ text }) => Number(text)).sort((a, b) => a - b);
    expect(numbers).toEqual(Array.from({ length: 10 }, (_, index) => index + 1));
    const list = await kit.documents<number[]>('lists', { ttl: '1h' }).get('a');
    expect(list?.toSorted((a, b) => a - b)).toEqual(numbers);
    const visits = kit.members('visits', { ttl: '1h' });
    expect(await visits.size('a')).toBe(10);
    const page = await visits.list('a', { limit: 7 });
    const rest = await visits.list('a', { after: page.next });
    expect([...page.members, ...rest.members].sort()).toEqual(numbers.map((n) => `visit ${n}`).sort());
    const state = kit.state({ user: { id: () => null, ttl: '1h' } });
    expect(await state.user('ann').get('name')).toBe('ann');
  });

  it('a browser at each of two processes receives the entries of a log from its last id on', async () => {
    const { kit, kits } = startKits();
    const logOf = (each: RedisKit) => each.log<number>('numbers', { ttl: '1h' });
    const urls = await Promise.all(
      kits.map((each) => serve(appOf({ '/': [each.sse({ channels: () => 'a', replay: logOf(each) })] }))),
    );
    const cursor = await logOf(kit).append('a', 1);
    await logOf(kit).append('a', 2);
    const readers = await Promise.all(urls.map((url) => openEvents(`${url}/?lastEventId=${cursor}`)));
    await logOf(kit).append('a', 3);
    for (const reader of readers) expect((await reader.count(2)).data).toEqual([2, 3]);
  });

  it('a pipeline limits, reads the session, and responds with the stored response', async () => {
    let made = 0;
    const { askOne, askOther } = await startTwice((kit) => ({
      '/page': [
        kit.pipeline(
          kit.rateLimit({ algorithm: 'sliding-window', limit: 4, window: '1h' }),
          kit.session({ secret: SECRET }),
          kit.cache({ ttl: '1h' }),
        ) as RequestHandler,
        (_req, res) => void res.send(`page ${++made}`),
      ],
    }));
    await askOne('/page');
    const statuses = [];
    for (const ask of [askOther, askOne, askOther, askOne]) statuses.push((await ask('/page')).status);
    expect(statuses).toEqual([200, 200, 200, 429]);
  });
}

function appOf(routes: Readonly<Record<string, readonly RequestHandler[]>>) {
  const app = express().set('env', 'test');
  for (const [path, handlers] of Object.entries(routes)) app.all(path, ...handlers);
  return app;
}

function end(text: string): RequestHandler {
  return (_req, res) => void res.end(text);
}
