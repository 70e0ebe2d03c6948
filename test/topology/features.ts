import express, { type RequestHandler } from 'express';
import { expect, it } from 'vitest';
import type { RedisKit } from '../../src/index.ts';
import { Gate } from '../http/exchange.ts';
import type { MakeKit } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { type Sent, send, serve } from '../support/web.ts';

const SECRET = 'a secret of the tests';

/** One or two tests for each feature, as two processes of an app use it. */
export function promisesOfEveryFeature(makeKit: MakeKit): void {
  /** Serves the same routes on two kits with one prefix. On `memory:`, which no two kits share, it is the same kit twice. */
  async function startTwice(
    routesOf: (kit: RedisKit) => Readonly<Record<string, readonly RequestHandler[]>>,
  ) {
    const first = makeKit();
    const second = first.client === null ? first : makeKit({ prefix: first.prefix });
    const one = await serve(appOf(routesOf(first)));
    const other = await serve(appOf(routesOf(second)));
    const ask = (path: string, sent: Sent = {}) =>
      Promise.all([send(`${one}${path}`, sent), send(`${other}${path}`, sent)]);
    return { first, second, one, other, ask };
  }

  it('a session survives a login, and parallel requests lose no change of it', async () => {
    const { one, ask } = await startTwice((kit) => ({
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
    const login = await send(`${one}/login`);
    const headers = { cookie: String(login.headers['set-cookie']?.[0]?.split(';')[0]) };
    const names = Array.from({ length: 5 }, (_, index) => `name-${index}`);
    await Promise.all(names.map((name) => ask(`/set/${name}`, { headers })));
    for (const { text } of await ask('/get', { headers })) {
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
    const { ask } = await startTwice((kit) => ({ '/': [kit.rateLimit(policy), end('allowed')] }));
    const rounds = await Promise.all(Array.from({ length: 10 }, () => ask('/')));
    const statuses = rounds.flat().map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(5);
    expect(statuses.filter((status) => status === 429)).toHaveLength(15);
  });

  it('a stored response is used by both processes until one of them purges it', async () => {
    let made = 0;
    const { first, one, other, ask } = await startTwice((kit) => ({
      '/page': [kit.cache({ ttl: '1h', tags: ['pages'] }), (_req, res) => void res.send(`page ${++made}`)],
    }));
    await send(`${one}/page`);
    await until('both use the stored response', async () =>
      (await ask('/page')).every(({ text, headers }) => text === 'page 1' && headers.age !== undefined),
    );
    await first.invalidate({ tags: 'pages' });
    await until(
      'the other process uses the new response',
      async () => (await send(`${other}/page`)).text === 'page 2',
    );
    expect((await send(`${one}/page`)).text).toBe('page 2');
  });

  it('a lock passes to the waiting request of another process, with a larger fencing token', async () => {
    const { first, other } = await startTwice((kit) => ({
      '/': [kit.lock({ key: () => 'a', wait: '1m' }), (req, res) => void res.json(req.lock?.fence)],
    }));
    const held = await first.locks.acquire('a');
    const answer = send(other);
    await until('the request waits', async () => (await first.locks.inspect('a')).waiters === 1);
    await held.release();
    expect(Number((await answer).text)).toBeGreaterThan(held.fence);
    expect(await first.locks.inspect('a')).toEqual({ held: false, waiters: 0 });
  });

  it('repeats of a request with an idempotency key run once in all processes', async () => {
    let runs = 0;
    const { ask } = await startTwice((kit) => ({
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
    const answers = [...(await ask('/pay', sent)), ...(await ask('/pay', sent))];
    expect(answers.map(({ status, text }) => [status, text])).toEqual(Array(4).fill([201, 'payment 1']));
  });

  it('a concurrency limit refuses the request of another process while its slot is taken', async () => {
    const entered = new Gate();
    const leave = new Gate();
    const { one, other } = await startTwice((kit) => ({
      '/': [
        kit.concurrency({ limit: 1 }),
        async (_req, res) => {
          entered.open();
          await leave.promise;
          res.send('done');
        },
      ],
    }));
    const running = send(one);
    await entered.promise;
    expect((await send(other)).status).toBe(429);
    leave.open();
    expect((await running).text).toBe('done');
    expect((await send(other)).status).toBe(200);
  });

  it('a pipeline limits, reads the session, and responds with the stored response', async () => {
    let made = 0;
    const { one, other } = await startTwice((kit) => ({
      '/page': [
        kit.pipeline(
          kit.rateLimit({ algorithm: 'sliding-window', limit: 4, window: '1h' }),
          kit.session({ secret: SECRET }),
          kit.cache({ ttl: '1h' }),
        ) as RequestHandler,
        (_req, res) => void res.send(`page ${++made}`),
      ],
    }));
    await send(`${one}/page`);
    const statuses = [];
    for (const address of [other, one, other, one]) statuses.push((await send(`${address}/page`)).status);
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
