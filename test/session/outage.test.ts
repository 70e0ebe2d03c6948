import express, { type Request, type Response } from 'express';
import { describe, expect, it, onTestFinished } from 'vitest';
import { addResponseHook } from '../../src/http/response/guarded-response.ts';
import type { SessionOptions } from '../../src/index.ts';
import type { Answer } from '../http/exchange.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startRedis } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { until } from '../support/until.ts';
import { Browser, dataOf, type Routes, serveSessions } from './browser.ts';

const COMMAND_TIMEOUT = 200;

/** Longer than a loaded machine needs, and shorter than a request that hangs. */
const SLACK = 1_500;

async function start(
  options: SessionOptions = {},
  routes: (server: Server) => Routes = () => ({}),
  app = express(),
) {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const kit = kitForTest({ url: server.url, commandTimeout: COMMAND_TIMEOUT });
  await kit.ready();
  const browser = new Browser(await serveSessions(kit, options, routes(server), app));
  // On a loaded machine a reply may be late.
  await until('the user is logged in', async () => (await browser.get('/login')).status === 302);
  return { server, kit, browser, errors: eventsOf(kit, 'error') };
}

type Server = Awaited<ReturnType<typeof startRedis>>;

async function timed(request: () => Promise<Answer>): Promise<Answer> {
  const elapsedMs = stopwatch();
  const answer = await request();
  expect(elapsedMs()).toBeLessThan(COMMAND_TIMEOUT + SLACK);
  return answer;
}

function expectRefusal(answer: Answer): void {
  expect(answer.status).toBe(503);
  expect(answer.header('content-type')).toBe('application/problem+json; charset=utf-8');
  expect(answer.header('retry-after')).toBe('1');
  expect(answer.header('set-cookie')).toBeUndefined();
  expect(answer.isComplete).toBe(true);
  expect(JSON.parse(answer.body)).toEqual({
    type: 'about:blank',
    title: 'Service Unavailable',
    status: 503,
    detail: 'The session store cannot be reached at the moment.',
  });
}

describeWithServers('sessions while Redis is unavailable', () => {
  it('a failed call of a session method that the handler does not await causes no unhandled rejection', async () => {
    const rejections: unknown[] = [];
    const keep = (reason: unknown) => rejections.push(reason);
    process.on('unhandledRejection', keep);
    onTestFinished(() => void process.off('unhandledRejection', keep));
    for (const method of ['save', 'reload', 'destroy', 'regenerate', 'logout'] as const) {
      const { browser } = await start({}, (redis) => ({
        '/hasty': (req, res) => {
          redis.freeze();
          req.session.note = 'hasty';
          void req.session[method](undefined as never);
          res.end();
        },
      }));
      await timed(() => browser.get('/hasty'));
    }
    await new Promise((resolve) => setTimeout(resolve, COMMAND_TIMEOUT));
    expect(rejections).toEqual([]);
  });

  it.each(['error', 'anonymous'] as const)(
    'a login during an outage fails within the deadline and has no effect (%s)',
    async (onError) => {
      const { server, browser } = await start({ onError }, (redis) => ({
        '/in': async (req, res) => {
          if (req.query.freeze !== undefined) redis.freeze();
          const error = await req.session.login('bob').catch((thrown: unknown) => thrown);
          res.json({ failed: error instanceof Error, still: dataOf(req) });
        },
      }));
      const before = browser.cookies.get('connect.sid');
      const answer = await timed(() => browser.get('/in?freeze'));
      server.thaw();
      expect(JSON.parse(answer.body)).toEqual({ failed: true, still: { userId: 'ann' } });
      expect(browser.cookies.get('connect.sid')).toBe(before);
      await until('the session is back', async () => (await browser.get('/')).body === '{"userId":"ann"}');
      server.freeze();
      const frozen = await timed(() => browser.get('/in'));
      server.thaw();
      if (onError === 'error') expectRefusal(frozen);
      else expect(JSON.parse(frozen.body)).toEqual({ failed: true, still: {} });
    },
  );

  describe("with onError 'error'", () => {
    it('a request is answered with 503 within the deadline while the server is frozen, and has its session afterwards', async () => {
      const { server, browser, errors } = await start();
      server.freeze();
      for (let attempt = 0; attempt < 5; attempt++) {
        expectRefusal(await timed(() => browser.get('/')));
        expectRefusal(await timed(() => browser.get('/view')));
        expectRefusal(await timed(() => browser.get('/logout')));
      }
      expect(errors.length).toBeGreaterThan(0);
      expect(errors.length).toBeLessThan(4);
      server.thaw();
      await until('the sessions are back', async () => (await browser.get('/')).status === 200);
      expect(await browser.data()).toEqual({ userId: 'ann' });
    });

    it('a request is answered with 503 while the server is down, and can begin a session when the server is back', async () => {
      const { server, browser } = await start();
      await server.kill();
      for (let attempt = 0; attempt < 5; attempt++) expectRefusal(await timed(() => browser.get('/view')));
      await server.restart();
      await until('sessions begin again', async () => (await browser.get('/login')).status === 302);
      expect(await browser.data()).toEqual({ userId: 'ann' });
    });

    it('a request without a session is handled during the outage if it needs no session', async () => {
      const { server, browser } = await start();
      server.freeze();
      const stranger = new Browser(browser.port);
      expect((await timed(() => stranger.get('/'))).status).toBe(200);
      expectRefusal(await timed(() => stranger.get('/view')));
    });

    it.each(['end', 'stream', 'writeHead'])(
      'a failed save replaces the whole response with a 503 (%s)',
      async (way) => {
        const { server, browser } = await start({ rolling: true }, (redis) => ({
          '/late': (req: Request, res: Response) => {
            redis.freeze();
            req.session.note = 'never saved';
            res.cookie('own', '1');
            if (way === 'writeHead') res.writeHead(201, { 'X-Secret': 'secret' });
            if (way === 'stream') res.write('secret');
            res.end('secret');
          },
        }));
        const answer = await timed(() => browser.get('/late'));
        expectRefusal(answer);
        expect(answer.text).not.toContain('secret');
        server.thaw();
        await until('the sessions are back', async () => (await browser.get('/')).status === 200);
        // It is unknown whether the command without a reply has run.
        expect([undefined, 'never saved']).toContain(Reflect.get(Object(await browser.data()), 'note'));
      },
    );

    it('the failure of a save after the headers is emitted, and the response continues', async () => {
      const { browser, errors } = await start({}, (redis) => ({
        '/stream': async (req: Request, res: Response) => {
          res.write('a');
          redis.freeze();
          req.session.note = 'never saved';
          res.end('b');
        },
      }));
      const answer = await timed(() => browser.get('/stream'));
      expect([answer.status, answer.body, answer.isComplete]).toEqual([200, 'ab', true]);
      expect(errors).toEqual([
        { feature: 'session', error: expect.objectContaining({ code: 'ERR_REDIS_KIT_TIMEOUT' }) },
      ]);
    });

    it('the callbacks of save(), reload() and destroy() get the error of the store', async () => {
      const codes: unknown[] = [];
      const { browser } = await start({}, (redis) => ({
        '/all': (req: Request, res: Response) => {
          redis.freeze();
          const { session } = req;
          const note = (then: () => void) => (error: unknown) => {
            codes.push(Reflect.get(Object(error), 'name'));
            then();
          };
          session.save(note(() => session.reload(note(() => session.destroy(note(() => res.end()))))));
        },
      }));
      await timed(() => browser.get('/all'));
      expect(codes).toEqual(
        Array.from({ length: 3 }, () => expect.stringMatching(/^(Store|Connection)Error$/)),
      );
    });
  });

  describe("with onError 'anonymous'", () => {
    const anonymous = { onError: 'anonymous' } as const;

    it('a request during an outage has an empty session that is never saved', async () => {
      const { server, kit, browser } = await start(
        { ...anonymous, rolling: true, saveUninitialized: true },
        () => ({
          '/all': (req: Request, res: Response) => {
            req.session.views = 5;
            req.session.save(() => {
              req.session.regenerate(() => {
                req.session.userId = 'mallory';
                req.session.save(() => res.json(dataOf(req)));
              });
            });
          },
        }),
      );
      const cookies = new Map(browser.cookies);
      await server.kill();
      for (const [path, body] of Object.entries({
        '/': '{}',
        '/view': '1',
        '/all': '{"userId":"mallory"}',
        '/logout': 'bye',
      })) {
        const answer = await timed(() => browser.get(path));
        expect([answer.status, answer.body, answer.header('set-cookie')]).toEqual([200, body, undefined]);
      }
      expect(browser.cookies).toEqual(cookies);
      const isUp = new Promise<void>((resolve) => {
        kit.on('connection:up', () => resolve());
      });
      await server.restart();
      await isUp;
      const keys = await withPlainClient(server.url, (client) => client.keys('*'));
      expect(keys).toEqual([]);
    });

    it('no session cookie is sent when the handler calls `writeHead` early', async () => {
      const app = express().use((_req, res, next) => {
        addResponseHook(res, { phase: 'capture' });
        next();
      });
      const routes: Routes = {
        '/head': (req, res) => {
          req.session.note = 'never saved';
          res.writeHead(200).end('done');
        },
      };
      const { server, browser } = await start(anonymous, () => routes, app);
      await server.kill();
      const answer = await timed(() => browser.get('/head'));
      expect([answer.body, answer.header('set-cookie')]).toEqual(['done', undefined]);
    });

    it('a session has its data again after the outage', async () => {
      const { server, browser } = await start(anonymous);
      server.freeze();
      expect((await timed(() => browser.get('/view'))).body).toBe('1');
      server.thaw();
      await until('the session is back', async () => JSON.stringify(await browser.data()).includes('ann'));
      expect(await browser.data()).toEqual({ userId: 'ann' });
    });

    it('a failed save drops the change and the cookie, and the response is sent', async () => {
      const { browser } = await start(anonymous, (redis) => ({
        '/late': (req: Request, res: Response) => {
          redis.freeze();
          req.session.note = 'never saved';
          res.end('done');
        },
      }));
      const stranger = new Browser(browser.port);
      const answer = await timed(() => stranger.get('/late'));
      expect([answer.status, answer.body, answer.header('set-cookie')]).toEqual([200, 'done', undefined]);
    });
  });
});
