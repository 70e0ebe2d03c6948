import express, { type RequestHandler } from 'express';
import expressSession from 'express-session';
import { beforeAll, describe, expect, it } from 'vitest';
import type { RedisKit } from '../../../src/index.ts';
import { describeOnBothEngines, kitForTest } from '../../support/kits.ts';
import { type Answer, type Sent, send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

const SECRET = 'a secret for this test';

/** Middleware above a cache that gives each client a cookie of its own. */
const COOKIES: readonly (readonly [name: string, make: (kit: RedisKit) => RequestHandler])[] = [
  ['kit.session', (kit) => kit.session({ secret: SECRET }) as RequestHandler],
  [
    'express-session',
    () => expressSession({ secret: SECRET, resave: false, saveUninitialized: true, rolling: true }),
  ],
  [
    'express-session with the store of the kit',
    (kit) =>
      expressSession({ secret: SECRET, resave: false, saveUninitialized: true, store: kit.sessionStore() }),
  ],
];

/** Conditions and ranges of a request, and the status of its response. */
const WAYS: readonly (readonly [status: number, text: string, headers: Sent['headers']])[] = [
  [200, '0123456789', {}],
  [304, '', { 'If-None-Match': '"page"' }],
  [206, '23', { Range: 'bytes=2-3' }],
  [416, '', { Range: 'bytes=99-' }],
];

describeOnBothEngines('middleware before kit.cache', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function page(above: (kit: RedisKit) => readonly RequestHandler[]) {
    const kit = kitForTest({ url: url() });
    let requests = 0;
    let runs = 0;
    const app = express().set('env', 'test');
    app.use((_req, res, next) => {
      res.setHeader('X-Request-Id', `request-${++requests}`);
      next();
    });
    for (const middleware of above(kit)) app.use(middleware);
    app.get('/{*path}', kit.cache({ ttl: '1m' }), (_req, res) => {
      runs++;
      res.set('ETag', '"page"').type('text').send('0123456789');
    });
    const address = await serve(app);
    const ask = (path: string, headers: Sent['headers'] = {}) => send(`${address}${path}`, { headers });
    return { kit, ask, runs: () => runs, requests: () => requests };
  }

  const idIn = ({ headers }: Answer): string | undefined =>
    /connect\.sid=([^;]+)/.exec(String(headers['set-cookie']))?.[1];

  describe.each(COOKIES)('%s', (_, session) => {
    it.each(WAYS)(
      'each client gets its own session cookie with a %i, from the handler or the cache',
      async (status, text, headers) => {
        const { ask, runs } = await page((kit) => [
          session(kit),
          (req, _res, next) => {
            // With data, so that the session is saved.
            Object.assign(req.session, { seen: true });
            next();
          },
        ]);
        const answers = [];
        for (let client = 0; client < 3; client++) answers.push(await ask('/page', headers));
        for (const answer of answers) {
          expect([answer.status, answer.text]).toEqual([status, text]);
          expect(answer.headers['set-cookie']).toHaveLength(1);
        }
        expect(new Set(answers.map(idIn)), 'each client its own').toHaveProperty('size', 3);
        expect(answers.map(idIn)).not.toContain(undefined);
        expect(runs(), 'and the page is made once').toBe(1);
      },
    );

    it.each(WAYS)(
      'the session data of a client outlives a %i from the cache',
      async (status, _text, headers) => {
        const { ask } = await page((kit) => [
          session(kit),
          (req, res, next) => {
            const visit = Number(Reflect.get(req.session, 'visit') ?? 0) + 1;
            Object.assign(req.session, { visit });
            res.setHeader('X-Visit', visit);
            next();
          },
        ]);
        const first = await ask('/page', headers);
        const cookie = { Cookie: `connect.sid=${idIn(first)}` };
        for (const visit of ['2', '3']) {
          const answer = await ask('/page', { ...headers, ...cookie });
          expect([answer.status, answer.headers['x-visit']]).toEqual([status, visit]);
        }
      },
    );
  });

  it.each(WAYS)(
    'each %i has its own request id, from the handler or the cache',
    async (status, text, headers) => {
      const { ask, runs, requests } = await page(() => []);
      for (let client = 1; client <= 3; client++) {
        const answer = await ask('/page', headers);
        expect([answer.status, answer.text]).toEqual([status, text]);
        expect(answer.rawHeaders.filter((name) => name === 'X-Request-Id')).toHaveLength(1);
        expect(answer.headers['x-request-id']).toBe(`request-${requests()}`);
      }
      expect(runs()).toBe(1);
    },
  );

  it('a page is not stored when earlier middleware sets a cookie on each response', async () => {
    let visitors = 0;
    const { ask, runs } = await page(() => [
      (_req, res, next) => {
        res.cookie('visitor', `v${++visitors}`);
        next();
      },
    ]);
    for (const visitor of ['v1', 'v2']) {
      expect(String((await ask('/page')).headers['set-cookie'])).toContain(`visitor=${visitor};`);
    }
    expect(runs()).toBe(2);
  });
});
