import compression from 'compression';
import cookieSession from 'cookie-session';
import express, { type RequestHandler } from 'express';
import expressSession from 'express-session';
import morgan from 'morgan';
import responseTime from 'response-time';
import { beforeAll, describe, expect, it } from 'vitest';
import type { RedisKit } from '../../../src/index.ts';
import { APPS, type App } from '../../http/frameworks.ts';
import { describeOnBothEngines, kitForTest } from '../../support/kits.ts';
import {
  compression17,
  cookieSession210,
  expressSession1181,
  morgan1100,
  responseTime232,
} from '../../support/older-releases.ts';
import { type Answer, type Sent, send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';
import { site } from './site.ts';

const SESSION = { secret: 'a secret for this test', resave: false, saveUninitialized: true };
const SILENT = { stream: { write: () => true } };

/** Middleware that wraps `writeHead`, in its current release and in the last one with on-headers 1.0.2. */
const NEIGHBOURS: readonly (readonly [name: string, make: () => RequestHandler])[] = [
  ['morgan 1.12', () => morgan('tiny', SILENT)],
  ['morgan 1.10.0', () => morgan1100('tiny', SILENT)],
  ['compression 1.8', () => compression()],
  ['compression 1.7.4', () => compression17()],
  ['response-time 2.3.4', () => responseTime()],
  ['response-time 2.3.2', () => responseTime232()],
  ['cookie-session 2.1.1', () => cookieSession({ keys: ['k'] })],
  ['cookie-session 2.1.0', () => cookieSession210({ keys: ['k'] })],
  ['express-session 1.19', () => expressSession(SESSION)],
  ['express-session 1.18.1', () => expressSession1181(SESSION)],
];

/** A hand-written wrapper of `writeHead` that does not know a flat list of headers. */
const handmade: RequestHandler = (_req, res, next) => {
  const { writeHead } = res;
  res.writeHead = ((status: number, headers?: Record<string, string>) =>
    writeHead.call(res, status, { ...headers, 'X-Handmade': 'yes' })) as typeof writeHead;
  next();
};

/** Conditions and ranges of a request, and the status of its response. */
const WAYS: readonly (readonly [status: number, text: string, headers: Sent['headers']])[] = [
  [200, '0123456789', {}],
  [304, '', { 'If-None-Match': '"page"' }],
  [206, '23', { Range: 'bytes=2-3' }],
  [416, '', { Range: 'bytes=99-' }],
];

describeOnBothEngines('kit.cache beside other middleware', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function page(makeApp: () => App, above: (kit: RedisKit) => readonly RequestHandler[]) {
    const kit = kitForTest({ url: url() });
    let runs = 0;
    const app = makeApp();
    const use = (handler: unknown) => Reflect.apply(app.use, app, [handler]);
    for (const middleware of above(kit)) use(middleware);
    app.use(kit.cache({ ttl: '1m' }));
    app.use((_req, res) => {
      runs++;
      res.setHeader('ETag', '"page"');
      res.setHeader('X-Several', ['a', 'b']);
      res.end('0123456789');
    });
    const address = await serve(app);
    return { ask: (headers: Sent['headers'] = {}) => send(address, { headers }), runs: () => runs };
  }

  /** The headers that on-headers 1.0.2 sets for a flat list. */
  const strayNames = ({ headers }: Answer) => Object.keys(headers).filter((name) => name.length === 1);

  describe.each(APPS)('on %s', (_, makeApp) => {
    it.each(NEIGHBOURS)(
      'a hit with %s before the cache equals the response of the handler',
      async (_name, make) => {
        const { ask, runs } = await page(makeApp, () => [make()]);
        await ask();
        for (const [status, text, headers] of WAYS) {
          const answer = await ask(headers);
          expect([answer.status, answer.text]).toEqual([status, text]);
          if (status < 400) expect(answer.headers['x-several']).toBe('a, b');
          expect(strayNames(answer)).toEqual([]);
        }
        expect(runs()).toBe(1);
      },
    );

    it('a hit has the headers that a hand-written wrapper of writeHead() adds', async () => {
      const { ask, runs } = await page(makeApp, () => [handmade]);
      for (const { status, headers } of [await ask(), await ask()]) {
        expect([status, headers['x-handmade'], headers['x-several']]).toEqual([200, 'yes', 'a, b']);
      }
      expect(runs()).toBe(1);
    });

    it('a hit with kit.session and an older morgan before the cache equals the response of the handler', async () => {
      const { ask, runs } = await page(makeApp, (kit) => [
        kit.session({ secret: 'a secret for this test' }) as RequestHandler,
        morgan1100('tiny', SILENT),
        responseTime232(),
      ]);
      for (const answer of [await ask(), await ask()]) {
        expect([answer.status, answer.text, strayNames(answer)]).toEqual([200, '0123456789', []]);
        expect(answer.headers['x-response-time']).toMatch(/ms$/);
      }
      expect(runs()).toBe(1);
    });
  });

  it('a hit has the cookies of earlier middleware and those of an older cookie-session', async () => {
    const { ask } = await page(express, () => [
      cookieSession210({ keys: ['k'] }),
      (req, res, next) => {
        Object.assign(req.session ?? {}, { seen: true });
        res.append('Set-Cookie', ['one=1', 'two=2']);
        next();
      },
    ]);
    for (const { headers } of [await ask(), await ask()]) {
      expect(headers['set-cookie']).toEqual(
        expect.arrayContaining(['one=1', 'two=2', expect.stringMatching(/^session=/)]),
      );
    }
  });

  it('a stale response replaces an error when an older morgan runs before the cache', async () => {
    let isBroken = false;
    const { ask, pass } = await site(
      url(),
      { ttl: '1s', staleIfError: '1m', local: false, above: [morgan1100('tiny', SILENT)] },
      (_req, res) => void (isBroken ? res.status(503).end('broken') : res.end('fine')),
    );
    await ask();
    isBroken = true;
    await pass(2_000);
    const answer = await ask();
    expect([answer.status, answer.text, strayNames(answer)]).toEqual([200, 'fine', []]);
    expect(answer.headers['cache-status']).toContain('fwd-status=503');
  });
});
