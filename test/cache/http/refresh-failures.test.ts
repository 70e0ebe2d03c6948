import connect from 'connect';
import express, { type RequestHandler } from 'express';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CacheOptions, RedisKit } from '../../../src/index.ts';
import { Gate } from '../../http/exchange.ts';
import { redisUrl } from '../../support/context.ts';
import { describeOnBothEngines, eventsOf, kitForTest, testPrefix } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { send, serve } from '../../support/web.ts';
import { agingKit } from '../aging.ts';
import { loadCacheScripts } from '../scripts.ts';
import { site } from './site.ts';

it.each([{}, false] as const)(
  'a refresh that failed is tried again only after a second (local: %j)',
  async (local) => {
    let isBroken = false;
    const options = { ttl: '10s', staleWhileRevalidate: '1h', local } as const;
    const { ask, pass, storedAll, runs, skipped } = await site('memory:', options, (_req, res) => {
      res.status(isBroken ? 503 : 200).send('page');
    });
    await ask();
    await storedAll(1);
    isBroken = true;
    await pass(11_000);
    await ask();
    await until('the refresh has failed', () => skipped.length === 1);
    for (let client = 0; client < 10; client++) expect((await ask()).status).toBe(200);
    expect(runs()).toBe(2);
    await until('it is tried again', async () => {
      await pass(1_100);
      await ask();
      return runs() > 2;
    });
  },
);

describeOnBothEngines('a refresh that fails', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  it.each<[string, RequestHandler]>([
    ['throws', () => fail()],
    ['rejects', async () => fail()],
    ['passes an error to next', (_req, _res, next) => next(new Error('on purpose'))],
    ['calls next without another handler', (_req, _res, next) => next()],
    ['destroys the response', (_req, res) => void res.destroy()],
    [
      'destroys a response that it began',
      (_req, res) => res.write('begun') && void res.destroy(new Error('on purpose')),
    ],
    ['closes its connection', (req) => void req.socket.destroy()],
    ['responds with 503', (_req, res) => void res.status(503).send('no')],
  ])(
    'a stale response is kept when the handler of its refresh %s, and a later refresh succeeds',
    async (_, failing) => {
      let isBroken = false;
      const { ask, pass, storedAll, runs } = await site(
        url(),
        { ttl: '10s', staleWhileRevalidate: '1h' },
        (req, res, next) => (isBroken ? failing(req, res, next) : void res.send(`page ${runs()}`)),
      );
      await ask();
      await storedAll(1);
      isBroken = true;
      await pass(11_000);
      for (let client = 0; client < 3; client++) {
        expect(await ask()).toMatchObject({ status: 200, text: 'page 1' });
        await until('it was tried', () => runs() >= 2);
      }
      isBroken = false;
      await until('it is refreshed', async () => {
        // The refresh is tried again only after a second, also on the clock of the test.
        await pass(2_000);
        return (await ask()).text !== 'page 1';
      });
      expect(runs()).toBeLessThan(10);
    },
  );

  it('all clients get the stale response while the handler of a refresh never responds', async () => {
    const { ask, pass, storedAll, runs, kit } = await site(
      url(),
      { ttl: '10s', staleWhileRevalidate: '1h' },
      (_req, res) => {
        if (runs() === 1) res.send('page 1');
      },
    );
    await ask();
    await storedAll(1);
    await pass(11_000);
    for (let client = 0; client < 5; client++) {
      const answers = await Promise.all(Array.from({ length: 10 }, () => ask()));
      expect(new Set(answers.map(({ text }) => text))).toEqual(new Set(['page 1']));
      await until('the handler runs', () => runs() === 2);
    }
    expect(runs()).toBe(2);
    await kit.close();
  });

  it('a client refreshes when earlier middleware keeps refusing background refreshes', async () => {
    const { ask, pass, storedAll, runs } = await site(
      url(),
      {
        ttl: '10s',
        staleWhileRevalidate: '1h',
        above: [
          (req, res, next) => {
            // Like middleware that accepts only requests of a real connection.
            if (req.socket.localPort === undefined) res.sendStatus(403);
            else next();
          },
        ],
      },
      (_req, res) => void res.send(`page ${runs()}`),
    );
    await ask();
    await storedAll(1);
    await pass(11_000);
    expect((await ask()).text).toBe('page 1');
    await until('a client makes it anew itself', async () => {
      await pass(2_000);
      return (await ask()).text === 'page 2';
    });
  });
});

describe.each([
  ['Express', true],
  ['Connect', false],
])('a stale response in two processes on %s', (_, isExpress) => {
  it('one process refreshes a stale response while the other sends the stale one', async () => {
    const url = redisUrl();
    await loadCacheScripts(url);
    const prefix = testPrefix();
    const { kit: first, pass } = agingKit(url, { prefix });
    const second = kitForTest({ url, prefix });
    const gate = new Gate();
    let runs = 0;
    const options: CacheOptions = {
      ttl: '10s',
      staleWhileRevalidate: '1h',
      local: false,
      key: { host: false },
    };
    const start = async (kit: RedisKit) => {
      const stored = eventsOf(kit, 'cache:stored');
      const app = isExpress ? express() : connect();
      app.use(kit.cache(options));
      app.use(async (_req: unknown, res: import('node:http').ServerResponse) => {
        const run = ++runs;
        if (run > 1) await gate.promise;
        res.end(`page ${run}`);
      });
      const address = await serve(app as express.Express);
      return { stored, ask: async () => (await send(`${address}/a`)).text };
    };
    const [one, two] = [await start(first), await start(second)];
    expect(await one.ask()).toBe('page 1');
    await until('it is stored', () => one.stored.length === 1);
    expect(await two.ask()).toBe('page 1');
    await pass(11_000);
    const texts: string[] = [];
    const asking = [one, two, one, two, one, two].map(async ({ ask }) => texts.push(await ask()));
    await until('all but who makes it have it', () => texts.length >= (isExpress ? 6 : 5) && runs === 2);
    expect(new Set(texts)).toEqual(new Set(['page 1']));
    gate.open();
    await Promise.all(asking);
    await until('it is stored', () => one.stored.length + two.stored.length === 2);
    expect([await one.ask(), await two.ask(), runs]).toEqual(['page 2', 'page 2', 2]);
  });
});

function fail(): never {
  throw new Error('on purpose');
}
